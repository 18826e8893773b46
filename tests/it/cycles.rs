//! No module may hold a cycle of dependencies between the modules inside it.
//!
//! Read from the sources: each path that begins with `crate::` is a dependency of the file that it stands in, tests left
//! out. Inside each module its children are compared, each with all that is below it; a module's own file is no child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tidy::{files, root};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// `src/cost/sink.rs` is `cost::sink`, and `src/cost/mod.rs` is `cost`.
fn module_of(path: &Path) -> Option<String> {
    let path = path.strip_prefix("src").ok()?.with_extension("");
    let mut names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
    names.pop_if(|last| *last == "mod");
    let is_left_out = matches!(names.last(), None | Some(&("tests" | "lib" | "main")));
    (!is_left_out && names[0] != "build").then(|| names.join("::"))
}

/// The paths below `crate::` in a text, those in braces one by one.
fn paths(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        let base = rest[..end].trim_end_matches("::");
        match rest[end..].strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                let names = group.split(',').map(str::trim);
                found.extend(names.map(|name| format!("{base}::{name}")));
            }
            None => found.push(base.to_string()),
        }
    }
    found
}

/// Which module's file depends on which.
fn dependencies(sources: &BTreeMap<String, String>) -> Graph {
    let owner = |path: &str| {
        let mut path = path;
        loop {
            if sources.contains_key(path) {
                return Some(path.to_string());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let mut graph = Graph::new();
    for (module, text) in sources {
        let text = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: String = lines.flat_map(|line| [line, "\n"]).collect();
        let owners = paths(&code).into_iter().filter_map(|path| owner(&path));
        graph.insert(module.clone(), owners.filter(|of| of != module).collect());
    }
    graph
}

/// Each module with a cycle between its children, and one such cycle.
fn cycles(graph: &Graph) -> Vec<(String, String)> {
    let parents = graph.keys().flat_map(|module| {
        let ends = module.match_indices("::").map(|(at, _)| &module[..at]);
        ends.chain([""]).map(str::to_string)
    });
    let mut found = Vec::new();
    for parent in parents.collect::<BTreeSet<_>>() {
        let child = |module: &str| {
            let below = match parent.as_str() {
                "" => module,
                parent => module.strip_prefix(parent)?.strip_prefix("::")?,
            };
            below.split("::").next().map(str::to_string)
        };
        let mut between = Graph::new();
        for (from, all) in graph {
            let Some(from) = child(from) else { continue };
            let to = all.iter().filter_map(|to| child(to));
            let to: Vec<String> = to.filter(|to| *to != from).collect();
            between.entry(from).or_default().extend(to);
        }
        // What depends on nothing that is left cannot be in a cycle.
        while let Some(free) = between
            .iter()
            .find(|(_, all)| !all.iter().any(|to| between.contains_key(to)))
            .map(|(name, _)| name.clone())
        {
            between.remove(&free);
        }
        if let Some(first) = between.keys().next() {
            let mut way = vec![first.clone()];
            let cycle = loop {
                let last = &between[&way[way.len() - 1]];
                let next = last.iter().find(|to| between.contains_key(*to)).unwrap();
                match way.iter().position(|known| known == next) {
                    Some(at) => break way[at..].join(" -> "),
                    None => way.push(next.clone()),
                }
            };
            found.push((parent, cycle));
        }
    }
    found
}

#[test]
fn no_module_holds_a_cycle() {
    let sources = files("src").into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Some((module_of(&path)?, text))
    });
    let found = cycles(&dependencies(&sources.collect()));
    let wrong: Vec<String> = found
        .into_iter()
        .map(|(parent, cycle)| format!("{parent}: {cycle}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_cycle_check_finds_what_it_looks_for() {
    let found = |sources: &[(&str, &str)]| {
        let sources = sources.iter().map(|(m, t)| (m.to_string(), t.to_string()));
        cycles(&dependencies(&sources.collect()))
    };
    let none: &[(&str, &str)] = &[
        ("a", "use crate::a::b::X; mod b; mod c;"),
        ("a::b", "use crate::a::c::{X, Y};\n// use crate::a::d;"),
        (
            "a::c",
            "use crate::a::Z;\n#[cfg(test)]\nmod tests { use crate::a::b::X; }",
        ),
    ];
    assert_eq!(found(none), []);
    let two = [
        ("a::b", "use crate::a::c::{X, Y};"),
        ("a::c", ""),
        ("a::c::d", "fn f() { crate::a::b::g(); }"),
        ("a::e", "use crate::a::b::X;"),
    ];
    assert_eq!(found(&two), [("a".to_string(), "b -> c".to_string())]);
}
