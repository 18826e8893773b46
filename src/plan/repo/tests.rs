//! Repositories made for the purpose: in memory of any size, and on disk with everything a file system can hold.

use std::collections::HashMap;

use super::*;

/// A tree in memory: files by path, with their size or their rules.
#[derive(Default)]
struct Memory {
    directories: HashMap<PathBuf, Vec<Entry>>,
    rules: HashMap<PathBuf, String>,
    lists: u64,
}

impl Memory {
    fn file(&mut self, path: &str, bytes: u64) {
        let path = Path::new(path);
        self.add(path, Kind::File(bytes));
    }

    fn add(&mut self, path: &Path, kind: Kind) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let is_new = !self.directories.contains_key(parent);
        let entries = self.directories.entry(parent.to_path_buf()).or_default();
        entries.push(Entry {
            name: name.to_os_string(),
            kind,
        });
        if is_new {
            self.add(parent, Kind::Directory);
        }
    }

    fn ignore(&mut self, path: &str, rules: &str) {
        self.file(path, rules.len() as u64);
        self.rules.insert(PathBuf::from(path), rules.to_string());
    }
}

impl Tree for Memory {
    fn list(&mut self, directory: &Path, most: u64) -> io::Result<(Vec<Entry>, bool)> {
        self.lists += 1;
        let all = self.directories.get(directory).cloned().unwrap_or_default();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok((all.iter().take(most).cloned().collect(), all.len() > most))
    }

    fn read(&mut self, file: &Path, most: usize) -> io::Result<Vec<u8>> {
        let rules = self.rules.get(file).ok_or(io::ErrorKind::NotFound)?;
        Ok(rules.as_bytes()[..rules.len().min(most)].to_vec())
    }
}

fn never() -> bool {
    false
}

/// 100,000 files in 1,000 directories, three levels deep, under twenty rules that leave every file in.
fn large() -> Memory {
    let mut tree = Memory::default();
    let rules: String = (0..20).map(|n| format!("*.rule{n}\n")).collect();
    tree.ignore(".gitignore", &rules);
    for directory in 0..1_000 {
        for file in 0..100 {
            tree.file(
                &format!("part{}/sub{directory}/f{file}.rs", directory % 10),
                10,
            );
        }
    }
    tree
}

#[test]
fn a_hundred_thousand_files_take_a_step_each() {
    let walk = walk(&mut large(), DEFAULT_STEPS, &mut never);
    assert_eq!((walk.context.files, walk.context.stopped), (100_001, None));
    let rust = walk.context.primary_language().unwrap();
    assert_eq!(
        (rust.name, rust.bytes, rust.files),
        ("Rust", 1_000_000, 100_000)
    );
    // Every file and directory once, and twenty rules are cheaper than a step.
    assert_eq!(walk.steps, 100_001 + 10 + 1_000);
}

#[test]
fn a_bound_on_steps_holds_and_is_told() {
    for bound in [0, 1, 50, 5_000] {
        let mut tree = large();
        let walk = walk(&mut tree, bound, &mut never);
        assert_eq!(walk.context.stopped, Some(Stopped::Steps));
        assert!(
            walk.steps <= bound && walk.context.files <= bound && tree.lists <= bound + 1,
            "{bound}"
        );
    }
    // What is near to the top is seen first.
    let walk = walk(&mut large(), 1_000, &mut never);
    assert_eq!(walk.context.top_level.names.len(), 11);
    // One directory of too many entries is not read whole.
    let mut flat = Memory::default();
    (0..10_000).for_each(|n| flat.file(&format!("f{n}.py"), 1));
    let walk = super::walk(&mut flat, 100, &mut never);
    assert_eq!(
        (walk.context.files, walk.context.stopped),
        (100, Some(Stopped::Steps))
    );
}

#[test]
fn many_rules_cost_steps() {
    let mut tree = Memory::default();
    tree.ignore(".gitignore", &"a*b*c\n".repeat(3_200));
    (0..1_000).for_each(|n| tree.file(&format!("f{n}.py"), 1));
    let walk = walk(&mut tree, 10_000, &mut never);
    assert_eq!(walk.context.stopped, Some(Stopped::Steps));
    assert!(walk.context.files <= 100 && walk.steps <= 10_000 + 101);
}

#[test]
fn time_is_looked_at_and_ends_it() {
    let mut looks = 0;
    let walk = walk(&mut large(), DEFAULT_STEPS, &mut || {
        looks += 1;
        looks > 3
    });
    assert_eq!(walk.context.stopped, Some(Stopped::Time));
    assert!(walk.steps <= 4 * STEPS_PER_LOOK);
    assert_eq!(super::walk(&mut large(), 10, &mut || true).steps, 0);
}

#[test]
fn what_a_repository_is() {
    let mut tree = Memory::default();
    for (path, bytes) in [
        ("Cargo.toml", 10),
        ("src/main.rs", 500),
        ("web/package.json", 10),
        ("web/app.ts", 400),
        ("web/app.test.ts", 200),
        ("tests/it/main.rs", 100),
        ("tests/it/deep.test.ts", 1),
        ("data.json", 100_000),
        (".github/workflows/ci.yml", 10),
        ("node_modules/x/index.js", 100_000),
        (".git/config", 10),
    ] {
        tree.file(path, bytes);
    }
    let context = walk(&mut tree, DEFAULT_STEPS, &mut never).context;
    assert_eq!(context.files, 9);
    assert_eq!(context.ignored, 2);
    let languages: Vec<_> = context
        .languages
        .iter()
        .map(|l| (l.name, l.bytes, l.files))
        .collect();
    assert_eq!(languages, [("TypeScript", 601, 3), ("Rust", 600, 2)]);
    assert_eq!(
        context.top_level.names,
        [
            ".github/",
            "Cargo.toml",
            "data.json",
            "src/",
            "tests/",
            "web/"
        ]
    );
    assert_eq!(
        context.build.names,
        ["cargo (Cargo.toml)", "npm (web/package.json)"]
    );
    assert_eq!(context.tests.names, ["tests/", "web/app.test.ts"]);
    assert_eq!(context.ci.names, [".github/workflows/ci.yml"]);
}

#[test]
fn rules_of_every_level_hold() {
    let mut tree = Memory::default();
    tree.ignore(".gitignore", "*.log\n/build/\n!keep.log\nsub/only.rs\n");
    tree.ignore("sub/.gitignore", "!important.log\n/build\n");
    for path in [
        "a.log",
        "keep.log",
        "build/x.rs",
        "sub/build/x.rs",
        "sub/deep/build/x.rs",
        "sub/important.log",
        "sub/deep/other.log",
        "sub/only.rs",
        "sub/deep/only.rs",
    ] {
        tree.file(path, 1);
    }
    let context = walk(&mut tree, DEFAULT_STEPS, &mut never).context;
    // Two files of rules, keep.log, sub/important.log, sub/deep/build/x.rs, sub/deep/only.rs.
    assert_eq!((context.files, context.ignored), (6, 5));
}

/// How many files the tree on disk has; CI may raise it.
fn files_on_disk() -> u64 {
    let asked = std::env::var("OMK_TREE_FILES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(3_000)
}

#[cfg(unix)]
#[test]
fn a_tree_on_disk_with_loops_and_locked_doors() {
    use std::os::unix::fs::symlink;
    let root = std::env::temp_dir().join(format!("omk-repo-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let count = files_on_disk();
    for directory in 0..count.div_ceil(100) {
        let directory = root.join(format!("d{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            fs::write(directory.join(format!("f{file}.c")), "x").unwrap();
        }
    }
    symlink(&root, root.join("d0/up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/", root.join("everything")).unwrap();
    fs::write(root.join(".gitignore"), "d1/\n").unwrap();
    let walk = walk(&mut Directory(root.clone()), DEFAULT_STEPS, &mut never);
    fs::remove_dir_all(&root).unwrap();
    let files = count.div_ceil(100) * 100 - 100 + 1;
    assert_eq!(
        (
            walk.context.files,
            walk.context.ignored,
            walk.context.stopped
        ),
        (files, 1, None)
    );
    assert_eq!(
        walk.context.primary_language().map(|c| c.bytes),
        Some(files - 1)
    );
    // A rules file that is a link, or a directory that is not there, is told and does no harm.
    let gone = super::walk(&mut Directory(root), DEFAULT_STEPS, &mut never);
    assert_eq!((gone.context.files, gone.context.unreadable), (0, 1));
}
