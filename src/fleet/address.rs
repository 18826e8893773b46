//! Where a fleet keeps its document: the value of `OMK_FLEET`.

use std::fmt;
use std::str::FromStr;

/// The name of a fleet in a git repository that names none.
const DEFAULT_NAME: &str = "fleet";

/// A store, by its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `etcd+https://HOST:PORT/PREFIX`.
    Etcd {
        /// `https://HOST:PORT`, without a slash at the end.
        base: String,
        /// What every key begins with: `/PREFIX/`.
        prefix: String,
    },
    /// `git+REMOTE` or `git+URL`, with `#NAME` for a fleet of another name.
    Git {
        /// The name of a remote, or an address that git knows.
        remote: String,
        /// What every reference begins with: `refs/omk/NAME/`.
        prefix: String,
    },
}

impl Address {
    /// Engine and address, for messages.
    pub fn shown(&self) -> String {
        match self {
            Address::Etcd { base, prefix } => format!("etcd {base}, key {prefix}budget"),
            Address::Git { remote, prefix } => {
                format!("git {}, {prefix}budget", without_password(remote))
            }
        }
    }

    /// Whether a remote is an address itself, and not the name of one in the repository around.
    pub(crate) fn is_url(remote: &str) -> bool {
        remote.contains(':') || remote.contains('/')
    }
}

/// An address for a message: whatever stands before an `@` may hold a token.
pub(crate) fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = match rest.split_once('/') {
                Some((authority, path)) => (authority, format!("/{path}")),
                None => (rest, String::new()),
            };
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_string(),
    }
}

/// As it is written in `OMK_FLEET`, without a password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Etcd { base, prefix } => {
                write!(f, "etcd+{base}{}", prefix.trim_end_matches('/'))
            }
            Address::Git { remote, prefix } => {
                let name = prefix.trim_start_matches("refs/omk/").trim_end_matches('/');
                write!(f, "git+{}#{name}", without_password(remote))
            }
        }
    }
}

/// A text is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; write etcd+https://HOST:2379/NAME, git+origin or git+https://HOST/REPOSITORY",
            self.0
        )
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = |why: &str| Err(AddressError(why.to_string()));
        if let Some(url) = text.strip_prefix("etcd+") {
            let Some((scheme, rest)) = url.split_once("://") else {
                return wrong("the etcd address has no ://");
            };
            if !matches!(scheme, "http" | "https") {
                return wrong("etcd is reached over http or https");
            }
            let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
            let name = name.trim_matches('/');
            if host.is_empty() || host.contains('@') {
                return wrong(
                    "the etcd address needs a host; user and password go into OMK_FLEET_USER and OMK_FLEET_PASSWORD",
                );
            }
            if name.is_empty() {
                return wrong("the etcd address needs the name of the fleet after the host");
            }
            return Ok(Address::Etcd {
                base: format!("{scheme}://{host}"),
                prefix: format!("/{name}/"),
            });
        }
        let Some(rest) = text.strip_prefix("git+") else {
            return wrong("it begins with neither etcd+ nor git+");
        };
        let (remote, name) = rest.rsplit_once('#').unwrap_or((rest, DEFAULT_NAME));
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if !is_name {
            return wrong("the name after # may have letters, digits, - and _");
        }
        // A leading dash would be an option of git; ext:: would run a program.
        if remote.is_empty() || remote.starts_with('-') || remote.contains("::") {
            return wrong("the git address names no remote");
        }
        Ok(Address::Git {
            remote: remote.to_string(),
            prefix: format!("refs/omk/{name}/"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        for (text, shown, written) in [
            (
                "etcd+https://etcd.internal:2379/team-a",
                "etcd https://etcd.internal:2379, key /team-a/budget",
                "etcd+https://etcd.internal:2379/team-a",
            ),
            (
                "git+origin",
                "git origin, refs/omk/fleet/budget",
                "git+origin#fleet",
            ),
            (
                "git+https://user:token@host/repo.git#team-a",
                "git https://host/repo.git, refs/omk/team-a/budget",
                "git+https://host/repo.git#team-a",
            ),
            (
                "git+git@host:repo",
                "git git@host:repo, refs/omk/fleet/budget",
                "git+git@host:repo#fleet",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.shown(), shown);
            assert_eq!(address.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("redis://x", "neither etcd+ nor git+"),
            ("etcd+ftp://x/a", "over http or https"),
            ("etcd+https://x", "name of the fleet"),
            ("etcd+https://u:p@x/a", "OMK_FLEET_USER"),
            ("git+--upload-pack=x", "names no remote"),
            ("git+ext::sh", "names no remote"),
            ("git+origin#a b", "letters, digits"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
