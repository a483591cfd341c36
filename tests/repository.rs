//! What the repository promises about itself.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// From the bottom up: a module imports from modules before it, and from its own.
const ORDER: [&str; 41] = [
    "sync",
    "signals",
    "inbox",
    "wakers",
    "lanes",
    "moment",
    "rtt",
    "dice",
    "error",
    "event",
    "config",
    "ping_policy",
    "metrics",
    "liveness",
    "spawn",
    "link",
    "ping",
    "driver",
    "inline",
    "fleet",
    "completion",
    "future",
    "handle",
    "service",
    "share",
    "layer",
    "make",
    "ready_limit",
    "reconnect",
    "http",
    "hyper",
    "io",
    "h2_io",
    "tonic",
    "transport",
    "mux",
    "retry",
    "balance",
    "pong",
    "server",
    "lib",
];

#[test]
fn files_import_nothing_above_them() {
    let mut seen = BTreeSet::new();
    for file in sources(Path::new("src")) {
        let path = file.strip_prefix("src").expect("it is in src");
        let module = path.iter().next().expect("a file").to_string_lossy();
        let module = module.trim_end_matches(".rs").to_string();
        let rank = rank(&module);
        seen.insert(module.clone());
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        for import in imports(&text) {
            assert!(
                import == module || self::rank(&import) < rank,
                "{} imports `{import}`, which stands above it",
                file.display()
            );
        }
    }
    assert_eq!(
        seen.len(),
        ORDER.len(),
        "the order names files that are not there"
    );
}

#[test]
fn only_one_file_reads_a_clock() {
    for file in sources(Path::new("src")) {
        let text = fs::read_to_string(&file).expect("readable");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let reads = code.filter(|line| line.contains("Instant::now()")).count();
        let allowed = if file.ends_with("moment.rs") { 2 } else { 0 };
        assert_eq!(reads, allowed, "{}", file.display());
    }
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_declared_one() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features"])
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 20);
    for package in packages {
        if let Some(needs) = package["rust_version"].as_str() {
            let (needs, declared) = (version(needs), version(env!("CARGO_PKG_RUST_VERSION")));
            assert!(needs <= declared, "{} needs {needs:?}", package["name"]);
        }
    }
}

#[test]
fn the_changelog_and_the_readme_stand_on_the_manifest() {
    let changelog = fs::read_to_string("CHANGELOG.md").expect("readable");
    assert!(changelog.contains("## [Unreleased]") || changelog.contains(env!("CARGO_PKG_VERSION")));
    let readme = fs::read_to_string("README.md").expect("readable");
    assert!(
        !readme.contains("rust-version") && !readme.contains("1.88"),
        "it has one place"
    );
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().expect("a number"));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn rank(module: &str) -> usize {
    let rank = ORDER.iter().position(|name| *name == module);
    rank.unwrap_or_else(|| panic!("`{module}` has no place in the order"))
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The modules named after `crate::`, also inside the braces of `use crate::{..}`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut modules = BTreeSet::new();
    for (_, rest) in code
        .match_indices("crate::")
        .map(|(at, found)| (at, &code[at + found.len()..]))
    {
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(top_names(group)),
            None => modules.extend(first_name(rest)),
        }
    }
    // Types at the crate's root, in paths such as `crate::Handle`, are not modules.
    modules.retain(|name| name.starts_with(char::is_lowercase));
    modules
}

fn first_name(path: &str) -> Option<String> {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = &path[..end.unwrap_or(path.len())];
    (!name.is_empty()).then(|| name.to_string())
}

fn top_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut at_start) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                names.extend(first_name(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}
