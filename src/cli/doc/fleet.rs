//! The page `man/omk-fleet.7`, in roff: what a fleet guarantees, what it needs and what it can take.
//!
//! The committed file is held equal to this rendering by a test, which rewrites it when `OMK_BLESS` is set.

use crate::cli::doc::man::{item, paragraphs, section};
use crate::fleet::document::KEPT_DAYS;

const INTRODUCTION: &str = "Several machines, such as the runners of a CI system, can keep one budget and one ledger in a \
store that their team already runs: an etcd, or a git repository. Nothing of omk runs on the other side. OMK_FLEET names the \
store, and OMK_BUDGET then holds over the runs of all machines.\n\n\
The ledger of each machine stays as it is and comes first. A run reserves the most that it can cost there, then in the \
fleet; only then is anything sent. When it is over it is settled there, then in the fleet. What could not be delivered waits \
in the ledger's directory and goes with the next run or with `omk cost sync`.";

const STORE: &[(&str, &str)] = &[
    (
        "etcd+https://HOST:2379/NAME",
        "etcd 3.4 or later with its JSON gateway, which is on by default. The document is the key /NAME/budget, and records are \
keys below /NAME/runs/. With http instead of https nothing is encrypted.",
    ),
    (
        "git+origin",
        "The remote of that name of the repository that omk runs in, with its address and credentials. The document is the \
reference refs/omk/fleet/budget: a commit without parents whose message is the document, so no history accumulates. Nothing \
is written into the repository that omk runs in.",
    ),
    (
        "git+https://HOST/REPOSITORY, git+ssh://HOST/REPOSITORY",
        "The same for a repository that omk does not run in.",
    ),
    (
        "#NAME",
        "After a git address, a fleet of another name than fleet: refs/omk/NAME/.",
    ),
];

const GUARANTEES: &[(&str, &str)] = &[
    (
        "A cap is not exceeded",
        "as long as no run costs more than the worst case that it reserved, whatever number of runs ask at once, whatever \
replies are lost, and whenever a machine stops. A day is the day on which a run began by its own machine's clock, so the cap \
of a day holds over the runs labelled with that day.",
    ),
    (
        "Nothing is forgotten",
        "A run that is killed stays reserved at its worst case. When it is overdue any machine marks it unknown, and it stays \
counted at that bound until `omk cost recover` and `omk cost sync` on its own machine settle it. It is never dropped, since \
the money may have been spent.",
    ),
    (
        "Nothing is counted twice",
        "Settling twice is settling once, also when the ledger's directory was copied to another machine, as a CI cache does.",
    ),
    (
        "It fails closed",
        "When the store does not answer within {--fleet-timeout}, nothing is sent and the exit code is 75. With \
OMK_FLEET_OFFLINE=allow the run is sent, labelled fleet=offline, and delivered later; such runs are counted, and can exceed \
a cap.",
    ),
    (
        "Prompts and answers stay on the machine",
        "What is shared of a run is its record: times, model, tokens, cost, labels, name, host, and the session's id; neither \
paths nor the fingerprint of the prompt.",
    ),
];

const LIMITS: &[(&str, &str)] = &[
    (
        "Clocks",
        "A clock that is minutes off moves runs near midnight into the day before or after, and marks a run of another machine \
unknown too early or too late. Neither frees any money.",
    ),
    (
        "Labels",
        "A budget for a label counts from the moment when a machine first used it in the fleet. `omk cost fleet init` with \
OMK_BUDGET set does that before the first run.",
    ),
    (
        "Readers",
        "Whoever can read the keys or the repository can read all records. In a public repository they are public.",
    ),
    (
        "A compromised machine",
        "can do what its credentials can: read all records, change or delete the document, and so raise or exhaust the budget \
for everyone. The fleet guards against accidents, crashes and races, not against its own members. A key of the model service \
with a limit of its own remains the last line.",
    ),
    (
        "A growing run",
        "A run that asks several times reserves again before each request; where a budget has no room for that, it ends with \
exit code 5 and what was spent until then is counted.",
    ),
];

const ACTIONS: &str = "git needs permission to push. In GitHub Actions the job has it with";

const ACTIONS_EXAMPLE: &str = "permissions:\n  contents: write\nenv:\n  OMK_FLEET: git+origin\n  OMK_BUDGET: 20/day,tag:pr=2/day";

const FORKS: &str = "Workflows of pull requests from forks get a token that can only read, so their runs are refused with exit \
code 77. Rules that protect branches do not concern refs/omk. The token must be kept by `actions/checkout`, as it is by \
default (persist-credentials).";

const ROLES: &str = "etcd needs a role for one prefix, and a user with it. Its name and password go into OMK_FLEET_USER and \
OMK_FLEET_PASSWORD:";

const ROLES_EXAMPLE: &str = "etcdctl role add omk-team-a\netcdctl role grant-permission omk-team-a --prefix=true readwrite /team-a/\netcdctl user add ci:PASSWORD\netcdctl user grant-role ci omk-team-a";

const CERTIFICATES: &str = "OMK_FLEET_CA names the root certificates of the server, OMK_FLEET_CERT and OMK_FLEET_KEY a client \
certificate. The JSON gateway of etcd does not take a user's name from the certificate, so where roles are in force the \
password is needed beside it. Tokens are fetched and renewed as needed.";

const SIZING: &str = "The document has one sum for each day and label, for KEPT_DAYS days, and one entry for each run that is open or \
of unknown cost: some kilobytes. Writes to it take turns. Measured on a machine with two busy cores: on etcd 48 runs a \
second from one machine and 78 from eight at once; on a git repository on the same disk 2 to 3 runs a second. Over a network \
it is one run for two round trips. `omk cost fleet status` measures them, and `cargo bench --bench fleet` measures all of \
this on another machine.\n\n\
Beyond that, runs wait for their turn with growing random pauses, for up to a minute; then the exit code is 75 and nothing \
was sent. Split the fleet before it comes to that: a name in OMK_FLEET for each team or repository is a document of its own, \
with a budget of its own.\n\n\
A record has about a kilobyte. `omk cost clear --fleet --before 90d` removes old ones and keeps the sums of the document.";

/// The whole page.
fn page() -> String {
    let mut out = format!(
        ".TH OMK\\-FLEET 7 \"\" \"omk {}\" \"Miscellaneous\"\n",
        env!("CARGO_PKG_VERSION")
    );
    section(&mut out, "NAME");
    out.push_str("omk\\-fleet \\- one budget and one ledger for several machines\n");
    section(&mut out, "DESCRIPTION");
    paragraphs(&mut out, INTRODUCTION);
    section(&mut out, "EXAMPLE");
    example(
        &mut out,
        "export OMK_FLEET=git+origin OMK_BUDGET=20/day\nomk cost fleet init\nomk prompt \"Why is the sky blue?\"\nomk cost budget --fleet\nomk cost report --fleet --by tag:repo",
    );
    list(&mut out, "STORES", STORE);
    list(&mut out, "GUARANTEES", GUARANTEES);
    list(&mut out, "LIMITS", LIMITS);
    section(&mut out, "GIT");
    paragraphs(&mut out, ACTIONS);
    example(&mut out, ACTIONS_EXAMPLE);
    out.push_str(".PP\n");
    paragraphs(&mut out, FORKS);
    section(&mut out, "ETCD");
    paragraphs(&mut out, ROLES);
    example(&mut out, ROLES_EXAMPLE);
    out.push_str(".PP\n");
    paragraphs(&mut out, CERTIFICATES);
    section(&mut out, "SIZE");
    paragraphs(
        &mut out,
        &SIZING.replace("KEPT_DAYS", &KEPT_DAYS.to_string()),
    );
    section(&mut out, "SEE ALSO");
    out.push_str("\\fBomk\\fR(1), \\fBetcd\\fR(1), \\fBgit\\-push\\fR(1)\n");
    out
}

fn list(out: &mut String, title: &str, rows: &[(&str, &str)]) {
    section(out, title);
    for (name, text) in rows {
        item(out, &super::man::bold(name), text);
    }
}

fn example(out: &mut String, lines: &str) {
    out.push_str(&format!(
        ".PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n",
        super::man::escape(lines)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_this_rendering() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man/omk-fleet.7");
        if std::env::var_os("OMK_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == page(),
            "man/omk-fleet.7 is stale: OMK_BLESS=1 cargo test --lib rewrites it"
        );
    }
}
