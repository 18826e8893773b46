//! A budget binds however a turn of a real agent ends, over Wire and over ACP: see [`crate::money`] for HTTP.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use omk::catalog::money::Usd;
use serde_json::Value;

use crate::agents::{Agent, Cli, Code, Stage, case, cases, processes};
use crate::money::{agree, run_without_reader};
use crate::result::ledger;
use crate::sandbox::{Run, Sandbox};
use crate::service::{Act, Answer, End, Service, Told};

cases! {
    turn_that_is_cut turn_without_usage turn_with_negative_usage turn_behind_a_gateway_timeout turn_that_is_dropped
    turn_until_the_deadline turn_onto_a_full_disk turn_whose_reader_left turn_whose_agent_dies
}

fn ask(stage: &Stage, sandbox: &Sandbox, service: &Service, flags: &str, budget: &str) -> Run {
    let line = format!("prompt --retries 0 {flags} Why?");
    let run = stage.omk(sandbox, &service.url(), &line);
    run.env("OMK_BUDGET", budget)
}

/// Runs it twelve times under a cap with room for two.
#[track_caller]
fn two_of_twelve(stage: &Stage, act: fn() -> Act, end: impl Fn(Run, &Service, &Path)) {
    let sandbox = stage.sandbox("budget");
    let service = Service::new(move |_| act());
    let refused = ask(stage, &sandbox, &service, "--json", "0.000001/day").run();
    let bound = refused.code(5).json()["budget"]["worst_case_usd_exact"].clone();
    let bound = Usd::parse(bound.as_str().unwrap()).unwrap();
    let cap = bound + bound + Usd::parse("0.01").unwrap();
    let budget = format!("{}/day", cap.exact_decimal());
    let run = || {
        let run = ask(stage, &sandbox, &service, "", &budget);
        end(run, &service, &sandbox.path(""));
    };
    for _ in 0..12 {
        run();
    }
    // An agent's own client may ask more than once in a turn, so the turns are counted.
    let sent = || -> Vec<Value> {
        let records = ledger(&sandbox.path("work")).into_iter();
        records.filter(|run| run["charged"] != "no").collect()
    };
    assert_eq!(sent().len(), 2, "turns that were sent");
    let calls = service.calls().len();
    assert!(calls >= 2, "calls");
    let less = format!(
        "{}/day",
        (bound + Usd::parse("0.01").unwrap()).exact_decimal()
    );
    sandbox
        .omk("cost check")
        .env("OMK_BUDGET", less)
        .run()
        .code(5);
    agree(&sandbox);
    let first = sent().swap_remove(0);
    let id = first["id"].as_str().unwrap();
    let force = format!("cost settle {id} --void --note refunded");
    sandbox.omk(&force).run().code(0);
    run();
    run();
    // The one that was voided counts no more, and one more was sent.
    assert_eq!(sent().len(), 2, "after a turn was voided");
    assert!(service.calls().len() > calls, "calls after it");
}

fn plain(run: Run, _: &Service, _: &Path) {
    run.run();
}

fn turn_that_is_cut(stage: &Stage) {
    let act = || {
        Answer::text(["half"])
            .end(End::Cut)
            .told(Told::Nowhere)
            .into()
    };
    two_of_twelve(stage, act, plain);
}

fn turn_without_usage(stage: &Stage) {
    two_of_twelve(
        stage,
        || Answer::text(["fine"]).told(Told::Nowhere).into(),
        plain,
    );
}

fn turn_with_negative_usage(stage: &Stage) {
    let act = || {
        let told = Told::As(r#"{"prompt_tokens":-5,"completion_tokens":-7,"total_tokens":-12}"#);
        Answer::text(["fine"]).told(told).into()
    };
    two_of_twelve(stage, act, plain);
}

fn turn_behind_a_gateway_timeout(stage: &Stage) {
    let act = || Act::error("504 Gateway Timeout", "server_error", "too slow");
    two_of_twelve(stage, act, plain);
}

fn turn_that_is_dropped(stage: &Stage) {
    two_of_twelve(stage, || Act::Drop, plain);
}

fn turn_until_the_deadline(stage: &Stage) {
    let act = || Act::Hold(Answer::text(["late"]));
    two_of_twelve(stage, act, |run, _, _| {
        run.arg("--deadline").arg("15s").run();
    });
}

fn turn_onto_a_full_disk(stage: &Stage) {
    let act = || Answer::text(["some", " words"]).told(Told::Nowhere).into();
    two_of_twelve(stage, act, |run, _, _| {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        run.stdout_to(Stdio::from(full)).run();
    });
}

/// The reader leaves while the model works.
fn turn_whose_reader_left(stage: &Stage) {
    let act = || Act::Hold(Answer::text(["some", " words"]).told(Told::Nowhere));
    two_of_twelve(stage, act, |run, service, _| {
        run_without_reader(run, service)
    });
}

/// The agent is killed while the model works.
fn turn_whose_agent_dies(stage: &Stage) {
    let act = || Act::Hold(Answer::text(["late"]));
    two_of_twelve(stage, act, |run, service, root| {
        let calls = service.calls().len();
        let mut running = run.spawn();
        while running.try_wait().unwrap().is_none() {
            if service.calls().len() > calls {
                for process in processes(root) {
                    let (at, line) = process.split_once(": ").unwrap();
                    let pid = at.trim_start_matches("/proc/");
                    if !line.contains("omk prompt") {
                        let _ = std::process::Command::new("kill")
                            .args(["-9", pid])
                            .status();
                    }
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}
