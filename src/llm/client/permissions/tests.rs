//! Decisions on what agents ask for, on a directory with links and files of every kind.

use super::*;

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

/// A directory that is gone with the value: `p` to work in, `outside` beside it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let root =
            std::env::temp_dir().join(format!("omk-permissions-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for directory in [
            "p/src/sub",
            "p/.git/hooks",
            "p/docs",
            "outside",
            "ledger",
            "sessions/s1",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in [
            "p/src/a.rs",
            "p/.env",
            "p/README.md",
            "outside/secret",
            "outside/note.txt",
            "p/docs/a.md",
            "ledger/run",
        ] {
            fs::write(root.join(file), "x").unwrap();
        }
        let root = fs::canonicalize(root).unwrap();
        symlink(root.join("outside"), root.join("p/src/link")).unwrap();
        symlink(root.join("outside/secret"), root.join("p/src/file-link")).unwrap();
        symlink(root.join("nowhere"), root.join("p/src/dangling")).unwrap();
        symlink(root.join("p/src/sub"), root.join("p/src/inner-link")).unwrap();
        symlink(root.join("outside"), root.join("p/linked")).unwrap();
        symlink(root.join("p/.git"), root.join("p/src/dot-git")).unwrap();
        Tree(root)
    }

    fn place(&self) -> Place {
        Place::new(self.0.join("p"))
            .protecting(self.0.join("ledger"))
            .protecting(self.0.join("sessions"))
    }

    fn path(&self, path: &str) -> String {
        self.0.join(path).to_str().unwrap().to_string()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn permissions(rules: &str) -> Permissions {
    match rules {
        "" => Permissions::Nothing,
        rules => Permissions::of(Rule::parse_list(rules).unwrap()),
    }
}

fn allows(rules: &str, permission: &Permission, place: &Place) -> bool {
    let (answer, denial) = permissions(rules).decide(&Asked::Permission(permission.clone()), place);
    assert_eq!(answer == Answer::Allow, denial.is_none());
    answer == Answer::Allow
}

fn shell(tool: &str, command: &str) -> Permission {
    Permission {
        tool: tool.to_string(),
        command: Some(command.to_string()),
        ..Permission::default()
    }
}

fn file(tool: &str, path: &str) -> Permission {
    Permission {
        tool: tool.to_string(),
        action: format!("{tool} {path}"),
        paths: vec![path.to_string()],
        ..Permission::default()
    }
}

#[test]
fn names_mean_the_same_with_either_agent() {
    let place = Place::default();
    for (rule, tool) in [
        ("Shell", "Bash"),
        ("Bash", "Shell"),
        ("Write", "WriteFile"),
        ("edit", "StrReplaceFile"),
        ("all", "Anything"),
        ("mcp__x:y", "mcp__x:y"),
    ] {
        assert!(allows(rule, &shell(tool, "ls"), &place), "{rule} {tool}");
    }
    assert!(!allows("Read,Write", &shell("Bash", "ls"), &place));
}

#[test]
fn a_file_is_written_where_a_rule_allows_it_and_no_link_leads_elsewhere() {
    let tree = Tree::new("write");
    let place = tree.place();
    let absolute = |path: &str| tree.path(path);
    for (rules, path, allowed) in [
        ("Write(src/*)", "src/a.rs", true),
        ("Write(src/*)", "src/new.rs", true),
        ("Write(src/*)", &absolute("p/src/a.rs"), true),
        ("Write(src/*)", &absolute("p/src/new.rs"), true),
        ("Write(src/*)", &absolute("p/src/./a.rs"), true),
        ("Write(src/*)", "src/sub/a.rs", false),
        ("Write(src/**)", "src/sub/a.rs", true),
        ("Write(src/**)", "src/inner-link/a.rs", true),
        ("Write(src/**)", "src/new/deeper/a.rs", true),
        ("Write(src/*)", "README.md", false),
        ("Write(src/*)", "src/../README.md", false),
        ("Write(src/*)", &absolute("p/src/../README.md"), false),
        ("Write(src/**)", "src/new/../../README.md", false),
        ("Write(src/**)", "src/link/x", false),
        ("Write(src/**)", &absolute("p/src/link/x"), false),
        ("Write(src/**)", "src/link/secret", false),
        ("Write(src/**)", "src/file-link", false),
        ("Write(src/**)", "src/dangling", false),
        ("Write(src/**)", "src/dangling/x", false),
        ("Write(src/**)", "src/link/../p/src/a.rs", true),
        ("Write(src/**)", "src/dot-git/hooks/pre-commit", false),
        ("Write(linked/*)", "linked/x", false),
        ("Write(linked/*)", "../outside/x", false),
        ("Write(**)", ".git/hooks/pre-commit", false),
        ("Write(**)", ".git/config", false),
        ("Write(**)", ".envrc", false),
        ("Write(**)", ".env", false),
        ("Write(**)", ".github/workflows/ci.yml", false),
        ("Write(**)", ".bashrc", false),
        ("Write(**)", ".gitattributes", false),
        ("Write(**)", ".cargo/config.toml", false),
        ("Write(**)", ".vscode/tasks.json", false),
        ("Write(**)", "src/lib.rs", true),
        ("Write(.git/*)", ".git/config", false),
        ("Write(.git/config)", ".git/config", true),
        ("Write(.envrc)", ".envrc", true),
        ("Write(.git/config)", ".git/hooks/pre-commit", false),
        ("Write", "src/a.rs", true),
        ("Write", ".git/hooks/pre-commit", false),
        ("Write", "/proc/self/mem", false),
        ("Write", &absolute("ledger/run"), false),
        ("all", &absolute("ledger/run"), false),
        ("all", &absolute("sessions/s1/wire.jsonl"), false),
        ("all", ".git/config", true),
        ("Edit(src/*)", "src/a.rs", false),
        ("Write(src/a.rs)", "src/a.rs", true),
        ("Write(src/file-link)", "src/file-link", false),
        ("Write(../outside/*)", "../outside/x", false),
        (
            &format!("Write({}/*)", absolute("outside")),
            "../outside/x",
            true,
        ),
        (
            &format!("Write({}/*)", absolute("outside")),
            "src/link/x",
            true,
        ),
        ("", "src/a.rs", false),
    ] {
        assert_eq!(
            allows(rules, &file("Write", path), &place),
            allowed,
            "{rules}: {path}"
        );
        // A file in the arguments alone counts as one that was told.
        let in_arguments = Permission {
            tool: "Write".to_string(),
            arguments: Some(serde_json::json!({"path": path, "content": "x"}).to_string()),
            ..Permission::default()
        };
        assert_eq!(
            allows(rules, &in_arguments, &place),
            allowed,
            "{rules}: {path} in the arguments"
        );
    }
}

#[test]
fn every_file_of_a_request_has_to_be_allowed() {
    let tree = Tree::new("every");
    let place = tree.place();
    let mut write = file("Write", "src/a.rs");
    assert!(allows("Write(src/*)", &write, &place));
    write.paths.push("README.md".to_string());
    assert!(!allows("Write(src/*)", &write, &place));
    // What is shown and what is done may differ.
    let mut write = file("Write", "src/a.rs");
    write.arguments = Some(r#"{"file_path": "README.md"}"#.to_string());
    assert!(!allows("Write(src/*)", &write, &place));
    let unreported = Permission {
        tool: "Write".to_string(),
        ..Permission::default()
    };
    assert!(allows("Write", &unreported, &place) && !allows("Write(src/*)", &unreported, &place));
}

#[test]
fn a_file_is_read_in_the_work_directory_unless_it_holds_keys() {
    let tree = Tree::new("read");
    let place = tree.place();
    let absolute = |path: &str| tree.path(path);
    for (rules, path, allowed) in [
        ("", "README.md", true),
        ("", "src/a.rs", true),
        ("", &absolute("p/src/a.rs"), true),
        ("", "src/missing.rs", true),
        ("", "src/inner-link/x", true),
        ("", ".git/config", true),
        ("", ".env", false),
        ("", ".env.local", false),
        ("", ".env.example", true),
        ("", "server.pem", false),
        ("", "id_rsa", false),
        ("", "src/link/note.txt", false),
        ("", "src/file-link", false),
        ("", "src/dangling", false),
        ("", "../outside/note.txt", false),
        ("", "/etc/passwd", false),
        ("", "/etc/shadow", false),
        ("", "/proc/self/environ", false),
        ("", "/dev/zero", false),
        ("", &absolute("ledger/run"), false),
        ("", &absolute("outside/note.txt"), false),
        ("all", &absolute("outside/note.txt"), true),
        ("all", "/proc/self/environ", false),
        ("all", ".env", false),
        ("all", &absolute("ledger/run"), false),
        ("Read", &absolute("outside/note.txt"), true),
        ("Read", "/etc/shadow", false),
        ("Read(.env)", ".env", true),
        ("Read(*)", ".env", false),
        ("Read(src/*)", "src/a.rs", true),
        ("Read(src/*)", "README.md", false),
        ("Read(src/*)", "docs/a.md", false),
        ("Read(src/*),Edit(docs/*)", "docs/a.md", true),
        (
            &format!("Read({}/*)", absolute("outside")),
            &absolute("outside/note.txt"),
            true,
        ),
        (
            &format!("Read({}/*)", absolute("outside")),
            "README.md",
            true,
        ),
        (
            &format!("Read({})", absolute("ledger/run")),
            &absolute("ledger/run"),
            true,
        ),
        ("Shell", "/etc/passwd", false),
    ] {
        let asked = Asked::ReadFile {
            path: path.to_string(),
            tool: None,
        };
        let (answer, denial) = permissions(rules).decide(&asked, &place);
        assert_eq!(answer == Answer::Allow, allowed, "{rules}: {path}");
        assert_eq!(denial.is_none(), allowed, "{rules}: {path}");
    }
}

#[test]
fn a_write_that_was_approved_is_checked_again_for_links() {
    let tree = Tree::new("approved");
    let place = tree.place();
    let write = |path: &str| Asked::WriteFile {
        permission: file("Write", path),
        content: String::new(),
        approved: true,
    };
    for (rules, path, allowed) in [
        ("", "src/a.rs", true),
        ("", "src/link/x", false),
        ("", "src/file-link", false),
        ("", "src/../README.md", false),
        ("Write(src/*)", "src/a.rs", true),
        ("Write(src/*)", "src/link/x", false),
    ] {
        let (answer, _) =
            permissions(rules).decide(&write(&tree.path(&format!("p/{path}"))), &place);
        assert_eq!(answer == Answer::Allow, allowed, "{rules}: {path}");
    }
}

#[test]
fn a_denial_names_the_narrowest_rule_and_that_rule_allows_it() {
    let tree = Tree::new("narrowest");
    let place = tree.place();
    let outside = tree.path("outside/note.txt");
    for (permission, rule) in [
        (shell("Bash", "git status"), Some("Bash(git status)")),
        (
            shell("Shell", "git -c a=b log"),
            Some("Shell(git -c a=b log)"),
        ),
        (shell("Shell", "ls | sh"), None),
        (shell("Shell", "echo (a)"), None),
        (
            file("Write", &tree.path("p/src/a.rs")),
            Some("Write(src/a.rs)"),
        ),
        (
            file("WriteFile", ".git/config"),
            Some("WriteFile(.git/config)"),
        ),
        (file("Edit", "src/inner-link/x"), Some("Edit(src/sub/x)")),
        (file("Write", &outside), Some(&*format!("Write({outside})"))),
        (file("Write", "src/dangling"), None),
        (file("Write", "a*b"), None),
        (file("WebSearch", ""), None),
        (
            Permission {
                tool: "WebSearch".to_string(),
                ..Permission::default()
            },
            Some("WebSearch"),
        ),
        (
            Permission {
                tool: "Write".to_string(),
                ..Permission::default()
            },
            None,
        ),
    ] {
        let (answer, denial) =
            Permissions::Nothing.decide(&Asked::Permission(permission.clone()), &place);
        assert_ne!(answer, Answer::Allow);
        assert_eq!(denial.unwrap().rule.as_deref(), rule, "{permission:?}");
        if let Some(rule) = rule {
            assert!(allows(rule, &permission, &place), "{rule}");
        }
    }
    let asked = Asked::ReadFile {
        path: outside.clone(),
        tool: Some("Edit".to_string()),
    };
    let denial = Permissions::Nothing.decide(&asked, &place).1.unwrap();
    assert_eq!(denial.rule, Some(format!("Read({outside})")));
}

#[test]
fn rules_are_read_and_written_back() {
    let rules = Rule::parse_list("Read, Shell(git log --format=(a),b) ,Write").unwrap();
    let shown: Vec<String> = rules.iter().map(Rule::to_string).collect();
    assert_eq!(shown, ["Read", "Shell(git log --format=(a),b)", "Write"]);
    for wrong in [
        "",
        "Shell(",
        "Shell()",
        "a,,b",
        "all(x)",
        "rm -rf",
        "Shell(a)b",
        "Read)",
    ] {
        assert!(Rule::parse_list(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        Permissions::of(Rule::parse_list("Read,all").unwrap()),
        Permissions::All
    );
    assert_eq!(Permissions::of(Vec::new()), Permissions::Nothing);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), command in any::<String>(), path in any::<String>()) {
        if let Ok(rules) = Rule::parse_list(&text) {
            let place = Place::default();
            let permissions = Permissions::of(rules);
            permissions.allows(&shell("Bash", &command), &place);
            permissions.allows(&file("Write", &path), &place);
            permissions.lets_read(&path, &place);
        }
    }
}
