//! Documents name paths that exist.

use std::fs;
use std::path::PathBuf;

use fink_tests::places;

/// README.md, CHANGELOG.md and docs/*.md.
fn documents() -> Vec<PathBuf> {
    let root = places::root();
    let mut all: Vec<_> = ["README.md", "CHANGELOG.md"].iter().map(|n| root.join(n)).filter(|p| p.is_file()).collect();
    if let Ok(list) = fs::read_dir(root.join("docs")) {
        all.extend(list.filter_map(|f| Some(f.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    all.sort();
    all
}

/// Texts in single backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let outside = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    outside.lines().flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether a text is meant as a path of this repository: it begins with a folder of it, and is nothing but a path.
fn path_of(text: &str) -> Option<String> {
    const FOLDERS: [&str; 11] =
        ["dataflow/", "sources/", "operators/", "sinks/", "bin/", "tests/", "docs/", "unify/", ".ci/", "examples/", "deploy/"];
    let path = text.split([' ', ':', '#']).next()?;
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    (plain && FOLDERS.iter().any(|folder| path.starts_with(folder))).then(|| path.to_owned())
}

#[test]
fn paths_in_documents_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        for path in quoted(&text).iter().filter_map(|t| path_of(t)) {
            if !places::root().join(&path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these do not exist:\n{}", missing.join("\n"));
}

#[test]
fn paths_are_told_from_other_words() {
    assert_eq!(quoted("see `bin/src/graph.rs`, `a`\n```\n`no/path`\n```\n`tests/`"), ["bin/src/graph.rs", "a", "tests/"]);
    assert_eq!(path_of("bin/src/graph.rs:12").as_deref(), Some("bin/src/graph.rs"));
    assert_eq!(path_of("tests/bars.sh kills").as_deref(), Some("tests/bars.sh"));
    assert_eq!(path_of("sinks/src/{a,b}.rs"), None);
    assert_eq!(path_of("fink start"), None);
}

/// A guide's code is an example's, which is compiled and run.
#[test]
fn code_in_documents_is_that_of_files() {
    let mut found = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        for block in text.split("```rust file=").skip(1) {
            let (file, rest) = block.split_once('\n').expect("a name");
            let code = rest.split("```").next().expect("a block");
            let is = fs::read_to_string(places::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(code == is, "{} shows another {file}: put the file's text there", document.display());
            assert!(is.lines().count() < 60, "{file} is longer than a page");
            found += 1;
        }
    }
    assert!(found >= 3);
}
