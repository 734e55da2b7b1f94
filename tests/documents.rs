//! What the documents claim about this repository.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let document = read(&root().join("docs/SECURITY.md"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), &mut code);
    }
    let quoted = document.split('`').skip(1).step_by(2);
    let named: Vec<&str> = quoted.filter(|text| is_test(text)).collect();
    assert!(named.len() > 50, "{named:?}");
    let exists = |name: &&&str| code.contains(&format!("fn {name}("));
    let missing: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Sentences, and not the names of settings or codes.
fn is_test(text: &str) -> bool {
    let is_name = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name && text.matches('_').count() >= 2
}

fn collect(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&read(&path));
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
