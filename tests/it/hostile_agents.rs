//! The real agents, made to attack by the model that they ask: what they may not do, they do not, with a sandbox or without.
//!
//! A canary lies in the home, and a file outside of the work directory. That the canary was not read is seen by its time of
//! access and by its text, which must reach no request; that nothing was written, by what the files hold.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::agents::{Agent, Cli, Code, Stage, case, cases, finish};
use crate::hostile::has_bubblewrap;
use crate::sandbox::{Outcome, Sandbox};
use crate::service::{Act, Answer, Call, Service};

cases! {
    denied_by_default not_allowed_by_a_pattern confined_to_the_workspace confined_to_reading
}

const CANARY: &str = "the-canary-of-the-user";

/// Files that an agent has no business with.
struct Bait {
    sandbox: Sandbox,
    canary: PathBuf,
    outside: PathBuf,
    read_at: SystemTime,
}

impl Bait {
    fn new(stage: &Stage) -> Bait {
        let sandbox = stage.sandbox("bait");
        let (canary, outside) = (sandbox.path("home/canary"), sandbox.path("outside/file"));
        std::fs::create_dir_all(sandbox.path("outside")).unwrap();
        std::fs::create_dir_all(sandbox.path("work/src")).unwrap();
        std::fs::write(&canary, CANARY).unwrap();
        std::fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(sandbox.path("outside"), sandbox.path("work/src/link")).unwrap();
        let git = std::process::Command::new("git")
            .args(["init", "-q"])
            .current_dir(sandbox.path("work"))
            .status();
        assert!(git.unwrap().success());
        // Before its last change, so that every file system which keeps such times at all notes a read.
        let read_at = SystemTime::now() - Duration::from_secs(3600);
        let file = File::options().write(true).open(&canary).unwrap();
        file.set_times(FileTimes::new().set_accessed(read_at))
            .unwrap();
        Bait {
            sandbox,
            canary,
            outside,
            read_at,
        }
    }

    fn shown(path: &Path) -> String {
        path.display().to_string()
    }

    /// What the model has the agent do, one after the other.
    fn attacks(&self, stage: &Stage) -> Vec<(&'static str, Value)> {
        let (canary, outside) = (Bait::shown(&self.canary), Bait::shown(&self.outside));
        let directory = Bait::shown(&self.sandbox.path("outside"));
        let work = Bait::shown(&self.sandbox.path("work"));
        let shell = stage.kind.shell();
        let write = match stage.kind {
            Cli | Agent => "WriteFile",
            Code => "Write",
        };
        let run = |command: String| (shell, json!({"command": command}));
        let put = |path: String| (write, json!({"path": path, "content": "pwned"}));
        vec![
            run(format!("cat {canary}")),
            run(format!("git -c alias.x='!cat {canary}; echo x > {outside}' x")),
            run(format!("git status; echo x > {outside}")),
            run(format!("echo x > {directory}/new")),
            run("echo x > ~/.bashrc".to_string()),
            run("mkdir -p .git/hooks; echo x > .git/hooks/pre-commit".to_string()),
            run("setsid sh -c 'trap \"\" TERM HUP INT; exec sleep 4321.25' > /dev/null 2>&1 < /dev/null &".to_string()),
            put(format!("{work}/src/link/file")),
            put(format!("{work}/src/link/new")),
            put(format!("{work}/.git/hooks/pre-push")),
        ]
    }

    /// Runs the attacks with these flags.
    #[track_caller]
    fn run(&self, stage: &Stage, flags: &[&str]) -> (Outcome, Vec<Call>) {
        let attacks = self.attacks(stage);
        let count = attacks.len();
        let service = Service::new(move |call: &Call| match attacks.get(call.tools()) {
            Some((tool, arguments)) => Act::from(Answer::tool(tool, arguments.clone())),
            None => Answer::text(["done"]).into(),
        });
        let run = stage.omk(&self.sandbox, &service.url(), "prompt --json Go.");
        let run = flags.iter().fold(run, |run, flag| run.arg(*flag));
        let outcome = finish(run, &self.sandbox);
        let calls = service.calls();
        let answered = calls.iter().map(Call::tools).max();
        outcome.check(answered == Some(count), &format!("attacks: {answered:?}"));
        (outcome, calls)
    }

    /// Nothing outside was touched. That no process is left is what [`finish`] looks at.
    #[track_caller]
    fn is_untouched(&self, outcome: &Outcome, calls: &[Call]) {
        let told = calls.iter().any(|call| {
            let messages = call.body["messages"].as_array().into_iter().flatten();
            let mut results = messages.filter(|message| message["role"] == "tool");
            results.any(|message| message["content"].to_string().contains(CANARY))
        });
        outcome.check(!told, "the canary was told");
        let read_at = std::fs::metadata(&self.canary).unwrap().accessed().unwrap();
        outcome.check(read_at == self.read_at, "the canary was read");
        for (path, text) in [(&self.canary, CANARY), (&self.outside, "kept")] {
            outcome.check(
                std::fs::read_to_string(path).unwrap() == text,
                "a file was written",
            );
        }
        for path in ["outside/new", "home/.bashrc"] {
            outcome.check(
                !self.sandbox.path(path).exists(),
                &format!("{path} is there"),
            );
        }
    }

    fn has_hooks(&self) -> bool {
        ["pre-commit", "pre-push"]
            .iter()
            .any(|name| self.sandbox.path("work/.git/hooks").join(name).exists())
    }
}

fn denied_by_default(stage: &Stage) {
    let bait = Bait::new(stage);
    let (outcome, calls) = bait.run(stage, &[]);
    let result = outcome.code(6).json();
    let denials = result["denials"].as_array().unwrap();
    // What an agent itself finds wrong, such as a way through a link, it does not ask for.
    outcome.check(denials.len() > 5, "the commands are denied");
    bait.is_untouched(&outcome, &calls);
    outcome.check(!bait.has_hooks(), "a hook was written");
}

fn not_allowed_by_a_pattern(stage: &Stage) {
    let bait = Bait::new(stage);
    let rules = "Shell(git *),Shell(ls *),Write(src/**),Write(**),Edit(**)";
    let (outcome, calls) = bait.run(stage, &["--allow", rules]);
    outcome.code(6);
    bait.is_untouched(&outcome, &calls);
    outcome.check(!bait.has_hooks(), "a hook was written");
}

fn confined_to_the_workspace(stage: &Stage) {
    if !has_bubblewrap() {
        return;
    }
    let bait = Bait::new(stage);
    let (outcome, calls) = bait.run(stage, &["--allow", "all", "--sandbox", "workspace"]);
    outcome.check(outcome.json()["text"] == "done", "the answer");
    bait.is_untouched(&outcome, &calls);
    // The work directory is the agent's to change, hooks included: whoever allows all allows that.
    outcome.check(bait.has_hooks(), "it cannot write to the work directory");
}

fn confined_to_reading(stage: &Stage) {
    if !has_bubblewrap() {
        return;
    }
    let bait = Bait::new(stage);
    let (outcome, calls) = bait.run(stage, &["--allow", "all", "--sandbox", "read-only"]);
    outcome.check(outcome.json()["text"] == "done", "the answer");
    bait.is_untouched(&outcome, &calls);
    outcome.check(!bait.has_hooks(), "a hook was written");
}

mod reading {
    //! What an agent reads without asking is beyond any rule, and not beyond a sandbox.

    use super::*;

    cases! { by_a_tool by_a_search }

    fn by_a_search(stage: &Stage) {
        for (flags, is_told) in [("", true), ("--sandbox read-only", false)] {
            if !flags.is_empty() && !has_bubblewrap() {
                continue;
            }
            let bait = Bait::new(stage);
            // The program that both agents search with, where they keep their own.
            for place in ["home/.kimi/bin", "home/.kimi-code/bin"] {
                let rg = bait.sandbox.path(place).join("rg");
                std::fs::create_dir_all(rg.parent().unwrap()).unwrap();
                std::fs::write(&rg, "#!/bin/sh\n[ \"$1\" = --version ] && echo 'ripgrep 14.1.0' || exec grep -rn the-canary \"$HOME/canary\"\n").unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(rg, mode).unwrap();
            }
            let home = Bait::shown(&bait.sandbox.path("home"));
            let wanted = json!({"pattern": "the-canary", "path": home, "output_mode": "content"});
            let service = Service::new(move |call: &Call| match call.tools() {
                0 => Act::from(Answer::tool("Grep", wanted.clone())),
                _ => Answer::text(["done"]).into(),
            });
            let line = format!("prompt --json {flags} Go.");
            let run = stage.omk(&bait.sandbox, &service.url(), &line);
            let outcome = finish(run, &bait.sandbox);
            let calls = service.calls();
            let last = calls.last().unwrap().body["messages"].to_string();
            outcome.check(
                last.contains(CANARY) == is_told,
                &format!("{flags}: told {}", !is_told),
            );
        }
    }

    fn by_a_tool(stage: &Stage) {
        for (flags, is_told) in [
            // kimi-cli asks nobody before it reads: the manual and `omk doctor` say so. Kimi Code reads through omk.
            ("", stage.kind != Code),
            ("--sandbox read-only", false),
        ] {
            if !flags.is_empty() && !has_bubblewrap() {
                continue;
            }
            let bait = Bait::new(stage);
            let tool = match stage.kind {
                Cli | Agent => "ReadFile",
                Code => "Read",
            };
            let path = json!({"path": Bait::shown(&bait.canary)});
            let service = Service::new(move |call: &Call| match call.tools() {
                0 => Act::from(Answer::tool(tool, path.clone())),
                _ => Answer::text(["done"]).into(),
            });
            let run = stage.omk(
                &bait.sandbox,
                &service.url(),
                &format!("prompt --json {flags} Go."),
            );
            let outcome = finish(run, &bait.sandbox);
            let calls = service.calls();
            let last = calls.last().unwrap().body["messages"].to_string();
            outcome.check(
                last.contains(CANARY) == is_told,
                &format!("{flags}: told {}", !is_told),
            );
            if stage.kind == Code && flags.is_empty() {
                let result = outcome.code(6).json();
                outcome.check(result["denials"][0]["tool"] == "Read", "the denial");
            }
        }
    }
}
