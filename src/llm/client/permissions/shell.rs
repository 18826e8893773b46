//! What of a command the free part of a pattern may stand for.
//!
//! `Shell(git *)` is meant to allow git, and not what git can be made to run: `git -c alias.x='!…' x`. So for programs that
//! are known to run or write something else there is a list of what a `*` does not cover. Whoever wants that names it in the
//! rule: `Shell(git rebase --exec *)`. Programs without a list are as free as their options; a pattern is no sandbox.

/// What makes more, or something else, of a command than its own words say.
const SHELL_SYNTAX: &[char] = &[
    ';', '&', '|', '<', '>', '$', '`', '(', ')', '{', '}', '\n', '\r', '\\', '\0',
];

/// Whether a pattern allows a command: one plain command, whose free part does nothing else.
pub(super) fn allows(pattern: &str, command: &str) -> bool {
    let is_plain = is_plain(command);
    let command = command.trim();
    if !is_plain || !matches(pattern, command) {
        return false;
    }
    // Without a free part, the user wrote this very command.
    !pattern.contains('*') || words(command).is_some_and(|words| covers(pattern, &words))
}

/// Whether a shell reads this as one command, and nothing in it as another.
pub(super) fn is_plain(command: &str) -> bool {
    !command.contains(SHELL_SYNTAX) && words(command).is_some_and(|words| !words.is_empty())
}

/// A word of a command, as the program gets it.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    /// It may stand for names of files, which an agent may have chosen to look like options.
    is_glob: bool,
}

/// The words of a plain command; `None` if a quotation does not end.
fn words(command: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    for c in command.chars() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert(Word {
            text: String::new(),
            is_glob: false,
        });
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '*' | '?' | '[') => {
                // After a directory it stands for names that begin with that directory.
                word.is_glob |= word.text.is_empty() || word.text.starts_with('-');
                word.text.push(c);
            }
            _ => word.text.push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What a free part does not stand for.
enum Limits {
    /// Only these subcommands, after only these options; and never these options.
    Subcommands {
        before: &'static [&'static str],
        allowed: &'static [&'static str],
        never: &'static [&'static str],
    },
    /// Never these options. One letter after one dash is also looked for among others: `-xO`.
    Options(&'static [&'static str]),
    /// It runs what it is given: the first argument has to be named.
    Interpreter,
    /// It does nothing but run or change something else: every word has to be named.
    Nothing,
}

use Limits::Interpreter;
use Limits::Nothing;
use Limits::Options;
use Limits::Subcommands;

/// The limits of a program.
fn limits(program: &str) -> Option<Limits> {
    Some(match program {
        "git" => Subcommands {
            before: &[
                "--no-pager",
                "-P",
                "--version",
                "--no-optional-locks",
                "--literal-pathspecs",
                "--no-replace-objects",
            ],
            allowed: &[
                "add",
                "annotate",
                "blame",
                "branch",
                "cat-file",
                "check-ignore",
                "checkout",
                "cherry",
                "cherry-pick",
                "clean",
                "commit",
                "count-objects",
                "describe",
                "diff",
                "diff-files",
                "diff-index",
                "diff-tree",
                "fetch",
                "for-each-ref",
                "grep",
                "log",
                "ls-files",
                "ls-remote",
                "ls-tree",
                "merge",
                "merge-base",
                "mv",
                "name-rev",
                "pull",
                "push",
                "range-diff",
                "reflog",
                "reset",
                "restore",
                "rev-list",
                "rev-parse",
                "revert",
                "rm",
                "shortlog",
                "show",
                "show-branch",
                "show-ref",
                "stash",
                "status",
                "switch",
                "tag",
                "version",
                "whatchanged",
            ],
            never: &[
                "--exec",
                "--exec-path",
                "--upload-pack",
                "--receive-pack",
                "--output",
                "--open-files-in-pager",
                "--ext-diff",
                "--extcmd",
                "--config",
                "--template",
                "--strategy",
                "--git-dir",
                "--work-tree",
                "--config-env",
                "--edit-description",
                "--filters",
                "--textconv",
                "--unsafe-paths",
                "--remote-submodules",
                "grep -O",
                "ls-remote -u",
                "merge -s",
                "pull -s",
                "cherry-pick -s",
                "revert -s",
            ],
        },
        "npm" | "pnpm" | "yarn" | "bun" => Subcommands {
            before: &["--version", "-v", "--silent", "-s"],
            allowed: &[
                "audit", "explain", "help", "info", "list", "ls", "outdated", "ping", "prefix",
                "root", "search", "view", "why",
            ],
            never: &[
                "--prefix",
                "--script-shell",
                "--userconfig",
                "--globalconfig",
                "--node-options",
                "--viewer",
                "--editor",
                "--fix",
                "--location",
                "--global",
                "-g",
                "-C",
                "--cwd",
                "--cache",
            ],
        },
        "cargo" => Subcommands {
            before: &[
                "--version",
                "-V",
                "-v",
                "-vv",
                "-q",
                "--verbose",
                "--quiet",
                "--offline",
                "--locked",
                "--frozen",
                "--list",
            ],
            allowed: &[
                "bench",
                "build",
                "b",
                "check",
                "c",
                "clippy",
                "doc",
                "d",
                "fetch",
                "fmt",
                "info",
                "locate-project",
                "metadata",
                "pkgid",
                "search",
                "test",
                "t",
                "tree",
                "update",
                "verify-project",
                "version",
            ],
            never: &[
                "--config",
                "--manifest-path",
                "--target-dir",
                "--artifact-dir",
                "--out-dir",
                "--open",
                "--fix",
                "-C",
                "-Z",
                "--lockfile-path",
            ],
        },
        "go" => Subcommands {
            before: &[],
            allowed: &["build", "doc", "fmt", "list", "test", "version", "vet"],
            never: &[
                "-exec",
                "-toolexec",
                "-vettool",
                "-o",
                "-C",
                "-overlay",
                "-modfile",
                "-ldflags",
                "-gccgoflags",
                "-compiler",
                "-coverprofile",
                "-cpuprofile",
                "-memprofile",
                "-blockprofile",
                "-mutexprofile",
                "-outputdir",
                "-trace",
                "-pkgdir",
                "-gcflags",
                "-asmflags",
            ],
        },
        "pip" | "pip3" => Subcommands {
            before: &["--version", "-V"],
            allowed: &["check", "freeze", "help", "index", "list", "show"],
            never: &["--log", "--python", "--cache-dir"],
        },
        "make" | "gmake" => Options(&[
            "-f",
            "--file",
            "--makefile",
            "-C",
            "--directory",
            "-I",
            "--include-dir",
            "-E",
            "--eval",
            "-e",
            "--environment-overrides",
            "-o",
            "-W",
            "=",
        ]),
        "ninja" => Options(&["-f", "-C", "-t"]),
        "cmake" => Options(&[
            "-P",
            "-E",
            "-D",
            "-C",
            "-B",
            "-G",
            "-T",
            "--build",
            "--install",
            "--preset",
            "--toolchain",
            "--open",
        ]),
        "find" => Options(&[
            "-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf",
            "-fls",
        ]),
        "fd" | "fdfind" => Options(&["-x", "-X", "--exec", "--exec-batch"]),
        "rg" => Options(&["--pre", "--hostname-bin", "-z", "--search-zip"]),
        "ag" | "ack" => Options(&["--pager"]),
        "sort" => Options(&[
            "-o",
            "--output",
            "--compress-program",
            "-T",
            "--temporary-directory",
            "--files0-from",
        ]),
        "tree" => Options(&["-o", "-R"]),
        "tar" | "bsdtar" => Options(&[
            "-x",
            "-c",
            "-r",
            "-u",
            "-A",
            "-I",
            "-F",
            "-P",
            "-C",
            "--extract",
            "--get",
            "--create",
            "--append",
            "--update",
            "--catenate",
            "--concatenate",
            "--delete",
            "--to-command",
            "--checkpoint-action",
            "--use-compress-program",
            "--rsh-command",
            "--rmt-command",
            "--info-script",
            "--new-volume-script",
            "--index-file",
            "--directory",
            "first-word",
        ]),
        "unzip" | "zip" | "7z" | "7za" | "ar" | "cpio" => Options(&[
            "-d",
            "-o",
            "-T",
            "-TT",
            "--unzip-command",
            "-x",
            "-p",
            "-i",
            "--to-command",
            "first-word",
        ]),
        "curl" => Options(&[
            "-o",
            "-O",
            "-J",
            "-K",
            "-T",
            "-c",
            "-D",
            "-d",
            "-F",
            "-E",
            "-x",
            "--output",
            "--output-dir",
            "--create-dirs",
            "--remote-name",
            "--remote-name-all",
            "--remote-header-name",
            "--config",
            "--upload-file",
            "--cookie-jar",
            "--dump-header",
            "--data",
            "--data-ascii",
            "--data-binary",
            "--data-raw",
            "--data-urlencode",
            "--json",
            "--form",
            "--form-string",
            "--cert",
            "--key",
            "--trace",
            "--trace-ascii",
            "--stderr",
            "--libcurl",
            "--etag-save",
            "--hsts",
            "--alt-svc",
            "--engine",
            "--proxy",
            "--preproxy",
            "--unix-socket",
            "--abstract-unix-socket",
            "--netrc-file",
            "--url-query",
        ]),
        "wget" => Options(&[
            "-O",
            "-P",
            "-o",
            "-a",
            "-i",
            "-e",
            "-x",
            "-r",
            "-m",
            "--output-document",
            "--directory-prefix",
            "--output-file",
            "--append-output",
            "--input-file",
            "--execute",
            "--config",
            "--post-file",
            "--body-file",
            "--save-cookies",
            "--use-askpass",
            "--warc-file",
            "--recursive",
            "--mirror",
            "--method",
            "--post-data",
            "--body-data",
            "--save-headers",
        ]),
        "man" => Options(&[
            "-P",
            "--pager",
            "-H",
            "--html",
            "-B",
            "-C",
            "--config-file",
            "-M",
            "-l",
        ]),
        "gcc" | "g++" | "cc" | "c++" | "clang" | "clang++" | "ld" | "rustc" => Options(&[
            "-o",
            "-wrapper",
            "-B",
            "-fplugin",
            "-specs",
            "--specs",
            "-C",
            "--codegen",
            "--out-dir",
            "-dumpdir",
            "-Xlinker",
            "-Wl",
            "-T",
            "-plugin",
            "@",
            "--emit",
            "-L",
            "-fuse-ld",
            "--config",
        ]),
        "gh" => Subcommands {
            before: &["--version"],
            allowed: &[
                "browse", "issue", "pr", "release", "repo", "run", "search", "status", "workflow",
            ],
            never: &[
                "--output",
                "-O",
                "-D",
                "--dir",
                "--editor",
                "-e",
                "--web",
                "-w",
                "--upload",
                "-F",
                "--body-file",
                "-T",
                "--template",
            ],
        },
        "docker" | "podman" | "kubectl" => Subcommands {
            before: &["--version", "-v"],
            allowed: &[
                "images", "info", "inspect", "logs", "ps", "version", "get", "describe", "top",
                "stats", "port", "diff", "history", "search",
            ],
            never: &[
                "--config",
                "-H",
                "--host",
                "--context",
                "--kubeconfig",
                "--tls",
                "--tlscacert",
                "--token",
            ],
        },
        "openssl" => Options(&[
            "-out",
            "-engine",
            "-provider",
            "-provider-path",
            "-config",
            "-writerand",
            "-keyout",
        ]),
        "tcpdump" => Options(&["-z", "-w", "-Z"]),
        "date" => Options(&["-s", "--set"]),
        "python" | "python2" | "python3" | "pypy" | "pypy3" | "perl" | "ruby" | "node"
        | "nodejs" | "deno" | "php" | "lua" | "luajit" | "Rscript" | "julia" | "java" | "sh"
        | "bash" | "dash" | "zsh" | "ksh" | "mksh" | "fish" | "tcsh" | "csh" | "pwsh" | "awk"
        | "gawk" | "mawk" | "nawk" | "sed" | "tclsh" | "expect" | "ghci" | "runghc" | "swift"
        | "osascript" | "guile" | "groovy" | "scala" | "kotlin" | "R" | "uv" | "poetry"
        | "pipenv" | "rake" | "bundle" | "gradle" | "mvn" | "ant" | "just" | "tox" | "nox"
        | "invoke" => Interpreter,
        "env" | "xargs" | "sudo" | "doas" | "su" | "runuser" | "nice" | "nohup" | "timeout"
        | "time" | "watch" | "parallel" | "exec" | "eval" | "command" | "builtin" | "source"
        | "." | "strace" | "ltrace" | "gdb" | "lldb" | "script" | "setsid" | "stdbuf"
        | "chroot" | "unshare" | "nsenter" | "bwrap" | "flock" | "ionice" | "taskset" | "chrt"
        | "busybox" | "toybox" | "npx" | "pnpx" | "bunx" | "uvx" | "pipx" | "ssh" | "scp"
        | "sftp" | "rsync" | "nc" | "ncat" | "netcat" | "socat" | "telnet" | "ftp" | "vi"
        | "vim" | "nvim" | "view" | "ex" | "ed" | "nano" | "emacs" | "less" | "more" | "most"
        | "at" | "batch" | "crontab" | "systemd-run" | "systemctl" | "launchctl" | "tee" | "dd"
        | "install" | "ln" | "truncate" | "mkfifo" | "trap" | "alias" | "export" | "set"
        | "entr" | "inotifywait" | "screen" | "tmux" | "dbus-send" | "gdbus" | "busctl"
        | "pkexec" | "xdg-open" | "open" | "apt" | "apt-get" | "dpkg" | "yum" | "dnf" | "brew"
        | "snap" | "flatpak" => Nothing,
        _ => return None,
    })
}

/// Whether the free part of a pattern may stand for what it stands for here.
fn covers(pattern: &str, words: &[Word]) -> bool {
    let Some((first, arguments)) = words.split_first() else {
        return false;
    };
    let named: Vec<&str> = pattern.split_whitespace().collect();
    // A path to a program is a name of it too.
    let program = first.text.rsplit('/').next().unwrap_or_default();
    // A variable set for the command is another command: `GIT_SSH=x git fetch`.
    if first.text.contains('=') || first.is_glob {
        return false;
    }
    let Some(limits) = limits(program) else {
        let names_program = named.first().is_some_and(|name| !name.contains('*'));
        return names_program || is_harmless(program);
    };
    // A file may be called `--exec=x`, and an agent can make it.
    if arguments.iter().any(|word| word.is_glob) {
        return false;
    }
    let named = named.get(1..).unwrap_or_default();
    let is_named = |text: &str| {
        let option = text.split('=').next().unwrap_or(text);
        named.iter().any(|name| {
            *name == text
                || name.strip_suffix('*') == Some(text)
                || (!option.contains('*')
                    && name.split('=').next() == Some(option)
                    && name.contains('='))
        })
    };
    match limits {
        Nothing => false,
        Interpreter => named
            .first()
            .is_some_and(|name| !name.starts_with('-') && !name.contains('*')),
        Options(never) => arguments
            .iter()
            .enumerate()
            .all(|(at, word)| is_named(&word.text) || !is_listed(never, "", &word.text, at)),
        Subcommands {
            before,
            allowed,
            never,
        } => {
            let mut at = 0;
            while let Some(word) = arguments.get(at).filter(|word| word.text.starts_with('-')) {
                at += match word.text.as_str() {
                    option if before.contains(&option) => 1,
                    option if !is_named(option) => return false,
                    option if option.contains('=') => 1,
                    // The word after an option that was named may be its value.
                    _ => 2,
                };
            }
            let Some(subcommand) = arguments.get(at) else {
                return true;
            };
            let is_allowed =
                allowed.contains(&subcommand.text.as_str()) || is_named(&subcommand.text);
            let rest = arguments.get(at + 1..).unwrap_or_default();
            is_allowed
                && rest.iter().enumerate().all(|(at, word)| {
                    is_named(&word.text) || !is_listed(never, &subcommand.text, &word.text, at)
                })
        }
    }
}

/// Of a pattern such as `*`, which names no program at all, only programs are covered that are known to do nothing else.
fn is_harmless(program: &str) -> bool {
    const HARMLESS: &[&str] = &[
        "cat", "cd", "cmp", "cut", "df", "diff", "dirname", "du", "echo", "false", "file", "grep",
        "egrep", "fgrep", "head", "id", "ls", "basename", "nl", "pwd", "readlink", "realpath",
        "stat", "tail", "test", "tr", "true", "uname", "wc", "which", "whoami",
    ];
    HARMLESS.contains(&program)
}

/// Whether a word is one of these options, in whatever way it can be written.
fn is_listed(never: &[&str], subcommand: &str, word: &str, at: usize) -> bool {
    let option = word.split('=').next().unwrap_or(word);
    never.iter().any(|listed| {
        // `grep -O` is about one subcommand.
        let listed = match listed.split_once(' ') {
            Some((of, listed)) if of == subcommand => listed,
            Some(_) => return false,
            None => listed,
        };
        match listed {
            "=" => word.contains('='),
            "@" => word.starts_with('@'),
            // `tar xf a`: letters without a dash.
            "first-word" => at == 0 && !word.starts_with('-'),
            _ if listed.starts_with("--") => {
                // Programs take the beginning of a long option for it.
                option.len() > 2 && listed.starts_with(option)
            }
            _ if listed.len() == 2 => {
                let letter = listed.chars().last().unwrap_or_default();
                word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
            }
            // `-exec`, of programs with long options after one dash; Go takes two as well.
            _ => {
                option == listed
                    || option.strip_prefix('-') == Some(listed)
                    || (listed.len() > 3 && word.starts_with(listed))
            }
        }
    })
}

/// The narrowest pattern that allows a command, if one does.
pub(super) fn narrowest(command: &str) -> Option<String> {
    let command = command.trim();
    // A `*` of the command's own would stand for anything in a pattern.
    (is_plain(command) && !command.contains('*')).then(|| command.to_string())
}

/// Whether `*` can stand for something everywhere so that the pattern is the text. Linear in the text for each star.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// Commands with what `git *` and the like make of them: `+` allowed, `-` denied.
    const CORPUS: &str = include_str!("../../../../tests/fixtures/attacks/commands.txt");

    #[test]
    fn every_command_of_the_corpus_has_its_outcome() {
        let mut wrong = Vec::new();
        let mut count = 0;
        for line in CORPUS
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut fields = line.splitn(3, '\t');
            let (outcome, pattern, command) = (
                fields.next().unwrap(),
                fields.next().unwrap(),
                fields.next().unwrap(),
            );
            count += 1;
            if allows(pattern, command) != (outcome == "+") {
                wrong.push(line);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count >= 150, "{count}");
    }

    #[test]
    fn a_pattern_lets_one_plain_command_through() {
        for (pattern, command, allowed) in [
            ("git *", "git status", true),
            ("git *", "  git status ", true),
            ("git *", "git", false),
            ("git *", "gitk", false),
            ("git *", "git log; rm -rf /", false),
            ("git *", "git log && reboot", false),
            ("git *", "git log | sh", false),
            ("git *", "git log > /etc/passwd", false),
            ("git *", "git log $(reboot)", false),
            ("git *", "git log `reboot`", false),
            ("git *", "git log\nreboot", false),
            ("git *", "git log 'unfinished", false),
            ("git * --stat", "git diff --stat", true),
            ("git * --stat", "git diff", false),
            ("*", "ls -l", true),
            ("*", "rm -rf x", false),
            ("ls", "ls", true),
            ("ls", "ls -l", false),
        ] {
            assert_eq!(allows(pattern, command), allowed, "{pattern}: {command}");
        }
        assert!(matches("a*b*b", "abb") && !matches("a*b*b", "ab"));
    }

    #[test]
    fn the_narrowest_pattern_allows_its_command_and_no_other() {
        for command in ["git status", "git -c a=b log", "ls -l 'a b'", "rm -rf x"] {
            let pattern = narrowest(command).unwrap();
            assert!(allows(&pattern, command), "{command}");
            assert!(!allows(&pattern, &format!("{command} x")), "{command}");
        }
        for command in ["ls | sh", "ls *", "", "echo 'x"] {
            assert_eq!(narrowest(command), None, "{command}");
        }
    }

    proptest! {
        #[test]
        fn what_a_star_stands_for_does_not_matter(a in "[a-c]{0,4}", b in "[a-c]{0,4}", c in "[a-c]{0,4}") {
            let pattern = format!("{a}*{c}");
            let text = format!("{a}{b}{c}");
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn no_quoting_hides_a_listed_option(quote in "['\"]", at in 0_usize..9) {
            let mut option = "--output=x".to_string();
            option.insert_str(at, &format!("{quote}{quote}"));
            let command = format!("git diff {option}");
            prop_assert!(!allows("git *", &command));
        }

        #[test]
        fn a_command_that_is_not_plain_is_never_allowed(before in "[a-z ]{0,9}", syntax in "[;&|<>$`(){}\n]", after in "[a-z ]{0,9}") {
            let command = format!("git {before}{syntax}{after}");
            prop_assert!(!allows("git *", &command) && !allows("*", &command));
        }
    }
}
