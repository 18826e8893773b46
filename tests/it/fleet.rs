//! `omk` in a fleet: one budget and one ledger for machines that share nothing but a store.

use crate::result::{KEY, run};
use crate::sandbox::{Run, Sandbox};
use crate::service::{Answer, Service};
use crate::stores::{Etcd, bare, has, scratch};

const ASK: &str = "-m kimi-k2.6 --max-output-tokens 1000 Why?";

struct Team<'a> {
    store: &'a str,
    budget: String,
}

impl Team<'_> {
    fn omk(&self, machine: &Sandbox, line: &str) -> Run {
        machine
            .omk(line)
            .env("OMK_FLEET", self.store)
            .env("OMK_BUDGET", &self.budget)
            .env("OMK_FLEET_TIMEOUT", "30s")
    }

    fn ask(&self, machine: &Sandbox, service: &Service) -> Run {
        let line = format!("prompt --base-url {} {ASK}", service.url());
        self.omk(machine, &line).env("MOONSHOT_API_KEY", KEY)
    }
}

fn service() -> Service {
    Service::new(|_| Answer::text(["The answer.\n"]))
}

/// The worst case of one question, as a refusal names it, and a little more.
fn worst_case(machine: &Sandbox, service: &Service) -> String {
    let outcome = run(machine
        .omk(&format!("prompt --base-url {} {ASK}", service.url()))
        .env("MOONSHOT_API_KEY", KEY)
        .env("OMK_BUDGET", "0.000000000001/day"));
    outcome.code(5);
    let text = outcome.stderr_text();
    let (_, after) = text.split_once("needed $").unwrap();
    let amount: String = after
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let amount = amount.trim_end_matches('.');
    format!("{:.6}/day", amount.parse::<f64>().unwrap() + 0.000_01)
}

/// Two machines with room for one question.
fn share(name: &str, store: &str) {
    let service = service();
    let machines = [1, 2, 3].map(|n| Sandbox::new(&format!("{name}_{n}")));
    let [one, two, probe] = &machines;
    let team = Team {
        store,
        budget: worst_case(probe, &service),
    };
    run(team.omk(one, "cost fleet init")).code(0);
    let calls = service.calls().len();
    run(team.ask(one, &service)).code(0).stdout("The answer.\n");
    assert_eq!(service.calls().len(), calls + 1);
    // The other machine has an empty ledger of its own, and is refused all the same.
    let refused = run(team.ask(two, &service));
    refused.code(5);
    assert!(refused.stderr_text().contains("the fleet's budget"));
    assert_eq!(service.calls().len(), calls + 1);
    let shown = run(team.omk(two, "cost budget --fleet --json"))
        .code(0)
        .json();
    assert_eq!(shown["open"].as_array().unwrap().len(), 0);
    let spent = shown["budgets"][0]["spent_usd_exact"]
        .as_str()
        .unwrap()
        .to_string();
    assert_ne!(spent, "0");
    let own = run(one.omk("cost list --json").env("OMK_BUDGET", "1/day"))
        .code(0)
        .json();
    assert_eq!(own["runs"][0]["usd_exact"], spent.as_str());
    let all = run(team.omk(two, "cost list --fleet --json"))
        .code(0)
        .json();
    assert_eq!(all["matching"], 1);
    assert_eq!(all["runs"][0]["usd_exact"], spent.as_str());
    run(team.omk(two, "cost report --fleet")).code(0);
    run(team.omk(two, "cost check --fleet")).code(0);
    run(team.omk(two, "cost export --fleet --format csv")).code(0);
    run(team.omk(two, "cost fleet verify")).code(0);
    let status = run(team.omk(two, "cost fleet status --json"))
        .code(0)
        .json();
    assert_eq!(status["can_write"], true);
    let synced = run(team.omk(one, "cost sync --json")).code(0).json();
    assert_eq!(synced["delivered"], 0);
}

#[test]
fn fleet_cli_machines_share_a_budget_on_git() {
    if has("git") {
        let directory = scratch("fleet_cli_git");
        let repository = bare(&directory.join("a.git"));
        share(
            "fleet_cli_git",
            &format!("git+file://{}", repository.display()),
        );
    }
}

#[test]
fn fleet_cli_machines_share_a_budget_on_etcd() {
    if has("etcd") && has("etcdctl") {
        let directory = scratch("fleet_cli_etcd");
        let server = Etcd::start(&directory);
        share("fleet_cli_etcd", &format!("etcd+{}/team-a", server.url()));
    }
}

#[test]
fn fleet_cli_a_store_that_is_away_stops_the_run_unless_that_is_allowed() {
    if !has("git") {
        return;
    }
    let service = service();
    let directory = scratch("fleet_cli_away");
    let repository = bare(&directory.join("a.git"));
    let store = format!("git+file://{}", repository.display());
    let away = directory.join("b.git");
    let machine = Sandbox::new("fleet_cli_away_1");
    let team = Team {
        store: "etcd+http://127.0.0.1:1/team-a",
        budget: "1/day".to_string(),
    };
    let closed = run(team
        .ask(&machine, &service)
        .env("OMK_FLEET_TIMEOUT", "300ms"));
    closed.code(75);
    assert!(
        closed
            .stderr_text()
            .contains("etcd http://127.0.0.1:1, key /team-a/budget"),
        "{}",
        closed.stderr_text()
    );
    assert_eq!(service.calls().len(), 0);
    let team = Team {
        store: &store,
        budget: "1/day".to_string(),
    };
    run(team.omk(&machine, "cost fleet init")).code(0);
    std::fs::rename(&repository, &away).unwrap();
    let open = run(team
        .ask(&machine, &service)
        .env("OMK_FLEET_OFFLINE", "allow"));
    open.code(0).stdout("The answer.\n");
    assert_eq!(service.calls().len(), 1);
    std::fs::rename(&away, &repository).unwrap();
    let synced = run(team.omk(&machine, "cost sync --json")).code(0).json();
    assert_eq!(synced["delivered"], 1);
    let synced = run(team.omk(&machine, "cost sync --json")).code(0).json();
    assert_eq!(synced["delivered"], 0);
    let all = run(team.omk(&machine, "cost list --fleet --json"))
        .code(0)
        .json();
    assert_eq!(all["matching"], 1);
    assert_eq!(all["runs"][0]["tags"]["fleet"], "offline");
    run(team.omk(&machine, "cost fleet verify")).code(0);
}

#[test]
fn fleet_cli_says_what_is_missing() {
    let machine = Sandbox::new("fleet_cli_missing");
    for line in ["cost sync", "cost fleet status", "cost report --fleet"] {
        let outcome = run(machine.omk(line));
        outcome.code(2);
        assert!(outcome.stderr_text().contains("OMK_FLEET is not set"));
    }
    run(machine.omk("cost fleet").env("OMK_FLEET", "git+origin")).code(2);
    run(machine.omk("cost sync").env("OMK_FLEET", "redis://x")).code(78);
    run(machine.omk("cost budget").env("OMK_BUDGET", "5/day")).code(0);
}
