//! Checks the shape of the source tree: which module may know which, and what the core may not do.
//!
//! To allow a new dependency, add it to [`LAYERS`] and say why in `docs/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every module under `src/`, lowest first, with all the modules it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("clock", &[]),
    ("media", &[]),
    ("wire", &["core"]),
    ("auth", &["clock", "core"]),
    ("telemetry", &["core"]),
    ("diagnosis", &["core"]),
    ("provider", &["clock", "core", "wire"]),
    ("gateway", &["clock", "core", "provider", "wire"]),
    ("client", &["clock", "core", "media", "wire"]),
    ("tools", &["clock", "core", "wire"]),
    ("driver", &["clock", "core"]),
    ("otlp", &["clock", "core"]),
    ("store", &["core"]),
    (
        "sim",
        &[
            "client", "clock", "core", "driver", "media", "provider", "wire",
        ],
    ),
    ("config", &["auth", "core", "otlp", "sim"]),
    (
        "server",
        &[
            "auth",
            "client",
            "clock",
            "config",
            "core",
            "diagnosis",
            "driver",
            "gateway",
            "otlp",
            "provider",
            "sim",
            "store",
            "telemetry",
            "tools",
            "wire",
        ],
    ),
    (
        "doctor",
        &[
            "auth",
            "clock",
            "config",
            "core",
            "diagnosis",
            "provider",
            "server",
        ],
    ),
];

/// Modules that only compute.
const PURE: &[&str] = &["core"];

/// What a module that only computes has no business with.
const IMPURE: &[&str] = &[
    ".await",
    "Mutex",
    "RwLock",
    "Instant::now",
    "SystemTime",
    "async fn",
    "println!",
    "rand::",
    "serde",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "thread_local!",
    "tokio",
    "tracing",
];

const MAX_LINES: usize = 500;

#[test]
fn modules_use_only_what_their_layer_allows() {
    let allowed = LAYERS.iter().copied().collect::<BTreeMap<_, _>>();
    let mut problems = vec![];
    let mut used = BTreeSet::new();

    for source in sources() {
        let module = source.module.as_str();
        let Some(may_use) = allowed.get(module) else {
            problems.push(format!("{module}: missing from LAYERS"));
            continue;
        };
        for target in source.targets() {
            used.insert((module.to_owned(), target.clone()));
            if target != module && !may_use.contains(&target.as_str()) {
                problems.push(format!("{}: uses `{target}`", source.path.display()));
            }
        }
    }
    for (module, may_use) in LAYERS {
        for target in *may_use {
            if !used.contains(&((*module).to_owned(), (*target).to_owned())) {
                problems.push(format!(
                    "{module}: no longer uses `{target}`; drop it from LAYERS"
                ));
            }
        }
    }

    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn layers_are_listed_lowest_first() {
    for (index, (module, may_use)) in LAYERS.iter().enumerate() {
        for target in *may_use {
            let below = LAYERS[..index].iter().any(|(lower, _)| lower == target);
            assert!(
                below,
                "`{module}` may not use `{target}`, which is not below it"
            );
        }
    }
}

#[test]
fn the_core_only_computes() {
    let problems = sources()
        .filter(|source| PURE.contains(&source.module.as_str()))
        .flat_map(|source| {
            let found = IMPURE.iter().filter(|word| source.code.contains(**word));
            found
                .map(|word| format!("{}: `{word}`", source.path.display()))
                .collect::<Vec<_>>()
        })
        .collect::<Vec<_>>();

    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    for source in sources() {
        let path = source.path.display();
        let lines = source.before_tests.lines().count();

        assert!(
            source.text.starts_with("//! "),
            "{path}: no module documentation"
        );
        assert!(
            lines <= MAX_LINES,
            "{path}: {lines} lines before its tests; split it"
        );
        assert!(
            !source.code.contains("super::"),
            "{path}: name modules from the crate root"
        );
    }
}

struct Source {
    path: PathBuf,
    /// The first segment of the module path.
    module: String,
    text: String,
    /// The text without the unit tests at the end.
    before_tests: String,
    /// The same without comments.
    code: String,
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Option<Self> {
        let relative = path.strip_prefix(root).expect("below the root");
        let module = relative.iter().next()?.to_str()?.trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            return None;
        }
        let text = fs::read_to_string(&path).expect("source is readable");
        let before_tests = text.split("#[cfg(test)]\n").next()?.to_owned();
        let code = before_tests
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");

        Some(Self {
            module: module.to_owned(),
            path,
            text,
            before_tests,
            code,
        })
    }

    /// The modules named by `crate::module`.
    fn targets(&self) -> impl Iterator<Item = String> {
        self.code.split("crate::").skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
    }
}

fn sources() -> impl Iterator<Item = Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = vec![];
    collect(&root, &mut paths);

    paths
        .into_iter()
        .filter_map(move |path| Source::read(&root, path))
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("directory is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}
