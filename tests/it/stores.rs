//! Real stores for a fleet on 127.0.0.1: etcd, and bare git repositories over a path and over `git daemon`.
//!
//! A program that is not installed is said so, prominently, and its tests are skipped; with `OMK_REQUIRE_FLEET` that is a
//! failure. Every server ends with its value.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Is this program installed? Says so where it is not.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_there {
        let required = std::env::var_os("OMK_REQUIRE_FLEET").is_some();
        assert!(!required, "{program} is required and not installed");
        eprintln!(
            "\n*** SKIPPED: {program} is not installed, so a fleet on it is NOT tested ***\n"
        );
    }
    is_there
}

/// A directory of this name for one test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn wait_for(port: u16, child: &mut Child) {
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < PATIENCE, "port {port} does not open");
        assert!(child.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// An etcd.
pub(crate) struct Etcd {
    directory: PathBuf,
    port: u16,
    peer: u16,
    /// Certificate, key and the root that signs clients.
    tls: Option<[PathBuf; 3]>,
    /// Who etcdctl is, where roles are in force.
    user: Option<String>,
    child: Option<Child>,
}

impl Etcd {
    /// An etcd with its data in this directory.
    pub(crate) fn start(directory: &Path) -> Etcd {
        Etcd::with(directory, None)
    }

    /// One that speaks TLS and asks for client certificates.
    pub(crate) fn start_tls(directory: &Path, tls: [PathBuf; 3]) -> Etcd {
        Etcd::with(directory, Some(tls))
    }

    fn with(directory: &Path, tls: Option<[PathBuf; 3]>) -> Etcd {
        let mut etcd = Etcd {
            directory: directory.to_path_buf(),
            port: free_port(),
            peer: free_port(),
            tls,
            user: None,
            child: None,
        };
        etcd.resume();
        etcd
    }

    /// Starts it again after [`Etcd::stop`].
    pub(crate) fn resume(&mut self) {
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = std::fs::File::create(self.directory.join("log")).unwrap();
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &self.url()])
            .args(["--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--logger", "zap", "--log-level", "error"])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        if let Some([certificate, key, root]) = &self.tls {
            command.arg("--cert-file").arg(certificate);
            command.arg("--key-file").arg(key);
            command
                .arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(root);
        }
        let mut child = command.spawn().unwrap();
        wait_for(self.port, &mut child);
        self.child = Some(child);
        // The port opens before there is a leader.
        let started = Instant::now();
        while !self.ctl(&["endpoint", "health"]).status.success() {
            assert!(started.elapsed() < PATIENCE, "etcd is not healthy");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The same where roles are in force.
    pub(crate) fn resume_signed_in(&mut self, user: &str) {
        self.user = Some(user.to_string());
        self.resume();
    }

    /// Kills it; the data stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// `http://127.0.0.1:PORT`, or with https.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// `etcdctl` with these arguments.
    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        let mut command = self.ctl_command();
        command.args(args).output().unwrap()
    }

    /// `etcdctl`, to be completed.
    pub(crate) fn ctl_command(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url()));
        if let Some(user) = &self.user {
            command.arg(format!("--user={user}"));
        }
        if let Some([certificate, key, root]) = &self.tls {
            command.arg("--cert").arg(certificate);
            command.arg("--key").arg(key);
            command.arg("--cacert").arg(root);
        }
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A bare repository at this path.
pub(crate) fn bare(path: &Path) -> PathBuf {
    run(Command::new("git").args(["init", "-q", "--bare"]).arg(path));
    path.to_path_buf()
}

/// A `git daemon` over all repositories of a directory.
pub(crate) struct Daemon {
    port: u16,
    child: Child,
}

impl Daemon {
    /// One that takes pushes, or does not.
    pub(crate) fn start(directory: &Path, takes_pushes: bool) -> Daemon {
        let port = free_port();
        let mut command = Command::new("git");
        command
            .args(["daemon", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if takes_pushes {
            command.arg("--enable=receive-pack");
        }
        let mut child = command.spawn().unwrap();
        wait_for(port, &mut child);
        Daemon { port, child }
    }

    /// The address of a repository.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // `git daemon` is a child of `git`: asked to end, it takes that one with it.
        let _ = run_quietly("kill", &self.child.id().to_string());
        let _ = self.child.wait();
    }
}

fn run_quietly(program: &str, arg: &str) -> std::io::Result<Output> {
    Command::new(program).arg(arg).output()
}
