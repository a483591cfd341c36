//! Where a driver runs.

use std::{fmt, pin::Pin, sync::Arc};

use tokio::runtime;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Default)]
pub(crate) enum Spawner {
    /// The tokio runtime in whose context somebody wraps or first polls the service.
    #[default]
    Ambient,
    Custom(Arc<dyn Fn(Task) + Send + Sync>),
}

impl Spawner {
    /// Whether a task can be spawned here and now.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Spawner::Ambient => runtime::Handle::try_current().is_ok(),
            Spawner::Custom(_) => true,
        }
    }

    /// Spawns `task`, or drops it where there is no runtime.
    pub(crate) fn spawn(&self, task: Task) {
        match self {
            Spawner::Ambient => {
                if let Ok(runtime) = runtime::Handle::try_current() {
                    drop(runtime.spawn(task));
                }
            }
            Spawner::Custom(spawn) => spawn(task),
        }
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spawner::Ambient => "Ambient",
            Spawner::Custom(_) => "Custom",
        })
    }
}
