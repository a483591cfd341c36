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

/// A driver that nobody runs yet.
pub(crate) struct Launch {
    pub(crate) task: Task,
    pub(crate) spawner: Spawner,
}

impl Launch {
    /// Spawns the driver, or returns it where there is no runtime.
    pub(crate) fn try_now(self) -> Result<(), Launch> {
        match &self.spawner {
            Spawner::Ambient => match runtime::Handle::try_current() {
                Ok(runtime) => {
                    drop(runtime.spawn(self.task));
                    Ok(())
                }
                Err(_) => Err(self),
            },
            Spawner::Custom(spawn) => {
                spawn(self.task);
                Ok(())
            }
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
