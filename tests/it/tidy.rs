//! The rules of the repository that no compiler checks. Each test reads the files as text and names
//! what breaks a rule.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The layers: what each module may import. A row names only rows above it, so there is no cycle.
const LAYERS: &[(&str, &[&str])] = &[
    ("runtime", &[]),
    ("tokens", &["runtime"]),
    ("catalog", &["runtime", "tokens"]),
    ("transport", &["runtime", "tokens"]),
    ("cost", &["runtime", "tokens", "catalog", "transport"]),
    ("plan", &["runtime", "tokens", "catalog"]),
    (
        "llm",
        &["runtime", "tokens", "catalog", "transport", "plan"],
    ),
    ("fleet", &["runtime", "catalog", "transport", "cost"]),
    (
        "run",
        &[
            "runtime",
            "tokens",
            "catalog",
            "transport",
            "cost",
            "plan",
            "llm",
            "fleet",
        ],
    ),
    (
        "batch",
        &[
            "runtime",
            "tokens",
            "catalog",
            "transport",
            "cost",
            "llm",
            "run",
        ],
    ),
    (
        "cli",
        &[
            "batch",
            "runtime",
            "tokens",
            "catalog",
            "transport",
            "cost",
            "plan",
            "llm",
            "fleet",
            "run",
        ],
    ),
    ("main", &["cli"]),
];

/// Modules that others rely on by name; each must hold a test of its own. Those that come with a
/// later issue may be absent, those that exist may not be without a test.
const CONTRACT: &[&str] = &[
    "cost::estimator",
    "cost::file_sink",
    "cost::sink",
    "cost::tracker",
    "llm::client",
    "llm::cost",
    "llm::error",
    "llm::parser",
    "llm::planner",
    "llm::prompt",
    "llm::retry",
    "llm::types",
    "runtime::atomic",
];

/// The runtime dependencies, all of them.
const DEPENDENCIES: &[&str] = &["lexopt", "serde", "serde_json", "tiktoken-rs", "ureq"];

/// What may stand at the top of the repository. `.git` and `target` are not part of it.
const TOP: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "man",
    "src",
    "target",
    "tests",
];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a directory of the repository, as a path relative to the root.
pub(crate) fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root()).unwrap().to_path_buf();
            if relative.starts_with("target") || relative.starts_with(".git") {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(relative);
            }
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let files = files("src").into_iter().chain(files("tests"));
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        (
            path.clone(),
            std::fs::read_to_string(root().join(path)).unwrap(),
        )
    })
    .collect()
}

/// The lines of code with their numbers, without comments: a comment may mention any module.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.enumerate().map(|(i, line)| (i + 1, line))
}

/// The names that follow `prefix` in a line, each up to the end of the word.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        if !line[..at].ends_with(is_word) {
            let rest = &line[at + prefix.len()..];
            names.push(rest.split(|c| !is_word(c)).next().unwrap_or_default());
        }
    }
    names
}

/// The module that a file below `src` belongs to; `None` for the two that belong to none.
fn module_of(path: &Path) -> Option<String> {
    let name = path.strip_prefix("src").ok()?.iter().next()?.to_str()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (name != "lib" && name != "build").then(|| name.to_string())
}

/// What a line of a module imports against the rules.
fn forbidden_imports(module: &str, line: &str) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("module {module} has no layer")];
    };
    let prefix = if module == "main" {
        concat!("om", "k::")
    } else {
        "crate::"
    };
    let names = names_after(line, prefix).into_iter();
    let mut wrong: Vec<String> = names
        .filter(|name| *name != module && !allowed.contains(name))
        .map(|name| match name {
            "" => "several modules in one import; write one path to a line".to_string(),
            name => format!("{module} imports {name}"),
        })
        .collect();
    if module != "tokens" && !names_after(line, "tiktoken").is_empty() {
        wrong.push(format!("{module} uses a tokenizer; only tokens may"));
    }
    wrong
}

#[track_caller]
fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn layers_import_only_what_is_below() {
    for (i, (name, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            assert!(
                LAYERS[..i].iter().any(|(row, _)| row == below),
                "{name} may not name {below}"
            );
        }
    }
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let Some(module) = module_of(&path) else {
            continue;
        };
        for (number, line) in code(&text) {
            for error in forbidden_imports(&module, line) {
                wrong.push(format!("{}:{number}: {error}", path.display()));
            }
        }
    }
    none(
        &wrong,
        "a module imports only from the layers below its own",
    );
}

#[test]
fn the_layer_check_finds_what_it_looks_for() {
    for (module, line, found) in [
        ("llm", "use crate::cost::estimator;", 1),
        ("cost", "    let x = crate::llm::types::Plan::default();", 1),
        (
            "cost",
            "use crate::cost::sink; use crate::runtime::atomic;",
            0,
        ),
        ("cli", "use crate::{llm, cost};", 1),
        ("cli", "pub(crate) fn f() {}", 0),
        ("cli", "use tiktoken_rs::o200k_base;", 1),
        ("tokens", "use tiktoken_rs::o200k_base;", 0),
        ("tokens", "use crate::cli::env::Env;", 1),
        ("main", concat!("om", "k::cli::main()"), 0),
        ("main", concat!("om", "k::llm::x()"), 1),
        ("newcomer", "", 1),
    ] {
        assert_eq!(
            forbidden_imports(module, line).len(),
            found,
            "{module}: {line}"
        );
    }
}

/// The file of a module, and the text that a function of it is defined by.
fn function(path: &str) -> (String, String) {
    let (module, name) = path.rsplit_once("::").unwrap();
    let stem = format!("src/{}", module.replace("::", "/"));
    let file = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
    let file = file.iter().find(|file| root().join(file).is_file());
    let file = file.unwrap_or_else(|| panic!("there is no module {module}"));
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    (text.to_string(), name.to_string())
}

#[test]
fn the_paths_in_the_crate_docs_are_those_of_the_code() {
    let docs = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let paths = docs.lines().filter_map(|line| line.strip_prefix("//! "));
    let paths = paths.filter(|line| line.contains(" > "));
    let mut followed = 0;
    for line in paths {
        let (_, path) = line.split_once(": ").unwrap();
        let steps: Vec<(String, String)> = path.split(" > ").map(|s| function(s.trim())).collect();
        for (at, (text, name)) in steps.iter().enumerate() {
            assert!(text.contains(&format!("fn {name}")), "{line}: {name}");
            if let Some((_, next)) = steps.get(at + 1) {
                let calls = text.match_indices(next.as_str()).any(|(found, _)| {
                    let before = text[..found].ends_with(['.', ':', ' ', '(']);
                    let is_definition = text[..found].ends_with("fn ");
                    before && !is_definition
                });
                assert!(calls, "{line}: {name} does not use {next}");
            }
            followed += 1;
        }
    }
    assert!(followed > 12, "{followed} steps");
}

#[test]
fn every_file_says_why_it_exists() {
    let wrong: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    none(&wrong, "every Rust file opens with a module comment");
}

#[test]
fn no_test_is_switched_off_or_expects_any_panic() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in code(&text) {
            for attribute in [concat!("#[", "ignore"), concat!("#[", "should_panic")] {
                if line.contains(attribute) {
                    wrong.push(format!("{}:{number}: {attribute}]", path.display()));
                }
            }
        }
    }
    none(&wrong, "a test runs, and says what it expects");
}

#[test]
fn every_module_of_the_contract_holds_a_test() {
    let mut wrong = Vec::new();
    let (mut present, all) = (0, rust_files());
    for module in CONTRACT {
        // `llm::client` is src/llm/client.rs or everything in src/llm/client/.
        let stem = Path::new("src").join(module.replace("::", "/"));
        let mut of_module = all
            .iter()
            .filter(|(path, _)| path.starts_with(&stem) || path.with_extension("") == stem)
            .peekable();
        if of_module.peek().is_none() {
            continue;
        }
        present += 1;
        if !of_module.any(|(_, text)| text.contains("#[test]")) {
            wrong.push((*module).to_string());
        }
    }
    println!("{present} of {} contract modules exist", CONTRACT.len());
    none(
        &wrong,
        "a filter that selects no test succeeds, so each of these modules needs one",
    );
}

#[test]
fn there_are_five_runtime_dependencies() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            // `[dependencies.x]` and `[target.'...'.dependencies]` would be ways around the list.
            let is_odd = section.ends_with("dependencies") && section.contains('.')
                || section.starts_with("dependencies.");
            assert!(
                !is_odd,
                "[{section}]: dependencies stand in the three plain sections"
            );
        } else if section == "dependencies"
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            found.insert(name.trim().to_string());
        }
    }
    assert_eq!(
        found,
        DEPENDENCIES
            .iter()
            .map(|name| name.to_string())
            .collect::<BTreeSet<_>>()
    );
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        if path == Path::new("src/runtime/signal.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let allows = line.contains("unsafe_code") && path != Path::new("src/runtime/mod.rs");
            // Built from parts, so that this file does not contain what it looks for.
            if allows || !names_after(line, concat!("unsafe", " ")).is_empty() {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    wrong.retain(|line| !line.starts_with("tests/it/tidy.rs"));
    none(
        &wrong,
        "unsafe code stands in src/runtime/signal.rs and nowhere else",
    );
}

#[test]
fn the_top_of_the_repository_holds_nothing_else() {
    let entries = std::fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let wrong: Vec<String> = names.filter(|name| !TOP.contains(&name.as_str())).collect();
    none(&wrong, "the top level has a fixed list of names");
}

#[test]
fn every_integration_test_file_is_declared() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name != "main" && !main.lines().any(|line| line == format!("mod {name};")) {
            wrong.push(name);
        }
    }
    none(
        &wrong,
        "a file that main.rs does not declare is never compiled",
    );
}

#[test]
fn no_file_names_a_directory_of_the_machine_it_was_written_on() {
    // Built from parts, so that this file does not contain what it looks for.
    let mut needles: Vec<String> = ["root", "home", "Users", "work"]
        .iter()
        .map(|name| format!("/{name}/"))
        .collect();
    // A checkout directly below the root of the file system has too short a name to look for.
    if root().components().count() > 2 {
        needles.push(root().display().to_string());
    }
    let mut wrong = Vec::new();
    for path in files("") {
        let bytes = std::fs::read(root().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for needle in &needles {
            if let Some(at) = text.find(needle.as_str()) {
                let number = text[..at].matches('\n').count() + 1;
                wrong.push(format!("{}:{number}: {needle}", path.display()));
            }
        }
    }
    none(
        &wrong,
        "an absolute path of a developer's machine is of no use on another",
    );
}
