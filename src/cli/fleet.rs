//! The fleet of this machine, as the environment names it: `OMK_FLEET` and what goes with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{Flag, LowCost, Takes, UsageError, value};
use crate::cli::{ledger, network};
use crate::cost::fingerprint::fingerprint;
use crate::fleet::address::Address;
use crate::fleet::etcd::{Etcd, Login};
use crate::fleet::git::Git;
use crate::fleet::member::{Member, Refusal};
use crate::fleet::store::{Store, StoreError, Trouble};
use crate::runtime::secret::Secret;

/// How long the store may be silent where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `--fleet`.
pub(crate) static FLEET: Flag = Flag {
    long: "fleet",
    takes: Takes::Nothing(|low| low.cost.fleet = true),
    doc: "Read the runs of all machines of the fleet. OMK_FLEET names its store; by default the runs of this machine are read. See \
omk-fleet(7).",
    ..Flag::BLANK
};

/// `--fleet-timeout`.
pub(crate) static FLEET_TIMEOUT: Flag = Flag {
    long: "fleet-timeout",
    takes: Takes::Value("DURATION", |low, v| {
        low.cost.fleet_timeout = Some(value::positive_duration(v)?);
        Ok(())
    }),
    doc: "Give the fleet's store up when it is silent for this long. Nothing is sent then, and the exit code is 75. Such as \
500ms or 10s; the default is 5s.",
    variables: &["OMK_FLEET_TIMEOUT"],
    configurable: true,
    ..Flag::BLANK
};

/// A text of the environment; a message about it never shows its value.
fn text(name: &str, env: &Env) -> Result<Option<String>, Failure> {
    let text = env.variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| wrong(name, "it is not UTF-8"))
}

fn wrong(name: &str, why: &str) -> Failure {
    Failure::new(Exit::Config, "configuration", format!("{name}: {why}"))
}

/// The address in `OMK_FLEET`.
///
/// # Errors
///
/// Exit 78 for a text that is none.
pub(crate) fn address(env: &Env) -> Result<Option<Address>, Failure> {
    let Some(text) = text("OMK_FLEET", env)? else {
        return Ok(None);
    };
    let address = text.parse::<Address>();
    address
        .map(Some)
        .map_err(|error| wrong("OMK_FLEET", &error.to_string()))
}

/// This machine's part in its fleet; `None` without `OMK_FLEET`. Nothing is sent yet.
///
/// # Errors
///
/// Exit 78 for a variable that cannot be used, 74 without a place for the ledger.
pub(crate) fn member(timeout: Option<Duration>, env: &Env) -> Result<Option<Member>, Failure> {
    let Some(address) = address(env)? else {
        return Ok(None);
    };
    let sends_offline = match text("OMK_FLEET_OFFLINE", env)?.as_deref() {
        None | Some("deny") => false,
        Some("allow") => true,
        Some(_) => return Err(wrong("OMK_FLEET_OFFLINE", "it is neither allow nor deny")),
    };
    let Some(ledger) = ledger::path(env) else {
        return Err(Failure::new(
            Exit::Io,
            "ledger",
            "there is no directory for the fleet's outbox",
        )
        .hint("set HOME, XDG_STATE_HOME or OMK_LEDGER"));
    };
    let directory = ledger
        .join("fleet")
        .join(fingerprint([address.to_string()]));
    let timeout = timeout.unwrap_or(TIMEOUT);
    let store: Box<dyn Store> = match address {
        Address::Git { remote, prefix } => {
            Box::new(Git::new(remote, prefix, directory.join("git")))
        }
        Address::Etcd { base, prefix } => {
            let mut config = network::config(env, timeout)?;
            if let Some(root) = env.variable("OMK_FLEET_CA") {
                config.ca_file = Some(PathBuf::from(root));
            }
            config.client_certificate = match (
                env.variable("OMK_FLEET_CERT"),
                env.variable("OMK_FLEET_KEY"),
            ) {
                (None, None) => None,
                (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
                _ => {
                    let why = "a client certificate needs both OMK_FLEET_CERT and OMK_FLEET_KEY";
                    return Err(wrong("OMK_FLEET_CERT", why));
                }
            };
            let login = match (
                text("OMK_FLEET_USER", env)?,
                text("OMK_FLEET_PASSWORD", env)?,
            ) {
                (None, None) => None,
                (Some(user), Some(password)) => Some(Login {
                    user,
                    password: Secret::new(password),
                }),
                _ => {
                    let why = "a user needs both OMK_FLEET_USER and OMK_FLEET_PASSWORD";
                    return Err(wrong("OMK_FLEET_USER", why));
                }
            };
            let http = crate::transport::http::Http::new(config).map_err(|error| {
                Failure::new(Exit::Config, "configuration", error.to_string()).hint(
                    "OMK_FLEET_CA, OMK_FLEET_CERT and OMK_FLEET_KEY name PEM files; without OMK_FLEET_CA it is SSL_CERT_FILE",
                )
            })?;
            Box::new(Etcd::new(http, base, prefix, login))
        }
    };
    Ok(Some(Member::new(store, directory, timeout, sends_offline)))
}

/// The same for a command that is of no use without a fleet.
///
/// # Errors
///
/// Exit 2 without `OMK_FLEET`.
pub(crate) fn needed(low: &LowCost, env: &Env) -> Result<Member, Failure> {
    member(low.fleet_timeout, env)?.ok_or_else(|| {
        UsageError::new("OMK_FLEET is not set")
            .hint("OMK_FLEET=git+origin or OMK_FLEET=etcd+https://HOST:2379/NAME names one; see omk-fleet(7)")
            .into()
    })
}

/// How long the store may be silent.
pub(crate) fn timeout(low: &LowCost) -> Duration {
    low.fleet_timeout.unwrap_or(TIMEOUT)
}

/// The failure that a store's error is.
pub(crate) fn failure(error: StoreError) -> Failure {
    let exit = exit_of(error.trouble);
    let failure = Failure::new(exit, "fleet", error.detail);
    match error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The exit code of a store's trouble.
pub(crate) fn exit_of(trouble: Trouble) -> Exit {
    match trouble {
        Trouble::Unreachable | Trouble::Contended => Exit::Temporary,
        Trouble::Denied => Exit::Permission,
        Trouble::Broken => Exit::Config,
    }
}

/// The failure of a run that may not be sent.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    let exit = match refusal {
        Refusal::Over { .. } | Refusal::Unbounded(_) => Exit::Budget,
        Refusal::Store(error) => exit_of(error.trouble),
        Refusal::Outbox(_) => Exit::Io,
    };
    let failure = Failure::new(exit, "fleet", refusal.to_string());
    match refusal.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::tests::world;

    #[test]
    fn a_fleet_is_what_the_environment_says() {
        let of = |variables: &[(&str, &str)]| {
            let (env, ..) = world(variables, b"");
            member(None, &env).map(|member| member.map(|member| member.place()))
        };
        assert_eq!(of(&[]), Ok(None));
        let home = ("HOME", "/h");
        let at = |address| [home, ("OMK_FLEET", address)];
        assert_eq!(
            of(&at("etcd+http://e:1/t")).unwrap().as_deref(),
            Some("etcd http://e:1, key /t/budget")
        );
        assert_eq!(
            of(&at("git+origin#t")).unwrap().as_deref(),
            Some("git origin, refs/omk/t/budget")
        );
        for (name, value) in [
            ("OMK_FLEET_OFFLINE", "maybe"),
            ("OMK_FLEET_CERT", "c.pem"),
            ("OMK_FLEET_PASSWORD", "secret"),
            ("OMK_FLEET_CA", "missing.pem"),
        ] {
            let [home, fleet] = at("etcd+http://e:1/t");
            let failure = of(&[home, fleet, (name, value)]).unwrap_err();
            assert_eq!(failure.exit, Exit::Config, "{name}");
            assert!(!failure.detail.contains("secret"), "{failure:?}");
        }
        assert_eq!(of(&at("x")).unwrap_err().exit, Exit::Config);
        assert_eq!(
            of(&[("OMK_FLEET", "git+origin")]).unwrap_err().exit,
            Exit::Io
        );
    }
}
