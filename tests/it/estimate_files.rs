//! `omk estimate` over directories, and texts cut to a number of tokens.

use crate::sandbox::Sandbox;

fn tree(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    sandbox
        .file("project/.gitignore", "*.log\n/build/\n")
        .file("project/a.rs", "fn main() {}\n".repeat(50))
        .file("project/src/b.rs", "fn b() {}\n")
        .file("project/src/deep/c.md", "Words of a text.\n".repeat(10))
        .file("project/noise.log", "ignored\n".repeat(500))
        .file("project/build/out.rs", "ignored\n".repeat(500))
        .file("project/node_modules/x.js", "ignored\n".repeat(500))
        .file("project/picture.png", b"\x89PNG\r\n\x1a\n\0\0\xff\xfe");
    sandbox
}

/// The names of the lines of a listing.
fn names(stdout: &str) -> Vec<&str> {
    let listing = stdout.split("\n\n").next().unwrap_or_default();
    let lines = listing.lines().skip(1);
    lines
        .filter_map(|line| line.split_once("project").map(|(_, name)| name))
        .collect()
}

#[test]
fn a_directory_stands_for_its_files() {
    let sandbox = tree("a_directory_stands_for_its_files");
    let outcome = sandbox.omk("estimate project").run();
    outcome.code(0);
    assert_eq!(
        names(outcome.stdout_text()),
        ["/a.rs", "/src/deep/c.md", "/.gitignore", "/src/b.rs"],
        "{}",
        outcome.stdout_text()
    );
    outcome.stderr("omk: warning: 1 file is not UTF-8 text and not counted; --lossy counts them\n");
    let counted = |line: &str| -> u64 {
        let outcome = sandbox.omk(line).run();
        outcome.code(0).stdout_text().trim().parse().unwrap()
    };
    let all = counted("estimate --count project");
    let each =
        "estimate --count project/a.rs project/src/b.rs project/src/deep/c.md project/.gitignore";
    assert_eq!(all, counted(each));
    assert!(all > counted("estimate --count project/src"));
}

#[test]
fn files_are_added_up_and_the_largest_listed() {
    let sandbox = tree("files_are_added_up_and_the_largest_listed");
    let outcome = sandbox.omk("estimate -q --by ext project").run();
    let text = outcome.code(0).stdout_text();
    let rust = text.lines().find(|line| line.contains(".rs (2 files)"));
    assert!(rust.is_some() && text.contains(".md (1 file)"), "{text}");
    let outcome = sandbox.omk("estimate -q --by dir project").run();
    outcome.code(0).stdout_contains("project/src/ (2 files)");
    let outcome = sandbox.omk("estimate -q --top 1 project").run();
    outcome.code(0).stdout_contains("3 more\n");
    let json = sandbox
        .omk("estimate -q --top 2 --by ext --json project")
        .run();
    let document = json.code(0).json();
    let inputs = document["models"][0]["inputs"].as_array().unwrap().clone();
    assert_eq!(inputs.len(), 2);
    assert_eq!(inputs[0]["name"], ".rs");
    assert_eq!(inputs[0]["files"], 2);
    let all = sandbox.omk("estimate -q --json project").run();
    let all = all.code(0).json();
    assert_eq!(
        all["models"][0]["text_tokens"],
        document["models"][0]["text_tokens"]
    );
    assert_eq!(all["models"][0]["inputs"].as_array().unwrap().len(), 4);
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let sandbox = tree("a_directory_that_cannot_be_read_is_named");
    let closed = sandbox.path("work/project/src");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything, and then there is nothing to see.
    let is_closed = std::fs::read_dir(&closed).is_err();
    let whole = sandbox.omk("estimate project").run();
    let alone = sandbox.omk("estimate project/src").run();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    if is_closed {
        whole
            .code(0)
            .stderr_contains("1 directories or .gitignore files cannot be read");
        alone
            .code(66)
            .stderr_contains("`project/src` cannot be read");
    }
}

#[test]
fn a_text_is_cut_to_so_many_tokens() {
    let sandbox = Sandbox::new("a_text_is_cut_to_so_many_tokens");
    sandbox.file("words", "one two three four five six seven eight nine ten");
    for (flags, text) in [
        ("--truncate 3", "one two three"),
        ("--truncate 3 --truncate-from end", "one two three"),
        ("--truncate 2 --truncate-from start", " nine ten"),
        (
            "--truncate 1k",
            "one two three four five six seven eight nine ten",
        ),
    ] {
        let line = format!("estimate {flags} words");
        sandbox.omk(&line).run().code(0).stdout(text).stderr("");
    }
    let middle = sandbox
        .omk("estimate --truncate 8 --truncate-from middle words")
        .run();
    middle.code(0).stdout_contains("\n[...]\n");
    let piped = sandbox
        .omk("estimate --truncate 2")
        .stdin("one two three")
        .run();
    piped.code(0).stdout("one two");
    for (line, message) in [
        (
            "estimate --truncate 2 --json words",
            "--truncate and --json exclude each other",
        ),
        (
            "estimate --truncate 2 --count words",
            "--count and --truncate exclude each other",
        ),
        (
            "estimate --truncate 2 words words",
            "--truncate and more than one FILE",
        ),
        (
            "estimate --truncate-from end words",
            "--truncate-from needs --truncate N",
        ),
        ("estimate --truncate 0 words", "`0` is too few"),
    ] {
        sandbox.omk(line).run().code(2).stderr_contains(message);
    }
}

#[test]
fn what_is_no_text_says_what_helps() {
    let sandbox = Sandbox::new("what_is_no_text_says_what_helps");
    sandbox
        .file("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        .file("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        .file("utf16", b"\xff\xfeh\0e\0l\0l\0o\0")
        .file("gbk", b"\xc4\xe3\xba\xc3\xa3\xac\xca\xc0\xbd\xe7\n");
    for (name, hint) in [
        ("a.pdf", "hint: this is a PDF: `pdftotext"),
        ("a.png", "hint: this is a picture: `omk prompt --image"),
        ("utf16", "hint: this looks like UTF-16: `iconv -f UTF-16"),
        ("gbk", "hint: this looks like GBK: `iconv -f GBK"),
    ] {
        let outcome = sandbox.omk(&format!("estimate {name}")).run();
        outcome.code(65).stderr_contains(hint);
    }
}
