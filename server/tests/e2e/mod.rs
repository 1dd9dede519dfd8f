//! Nodes as their operators run them: the built `overlapd` in its own process, driven through the built `overlap`.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test may panic"
)]

pub mod expected;
pub mod proxy;

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub const OVERLAPD: &str = env!("CARGO_BIN_EXE_overlapd");

/// The command line: another package's program, beside `overlapd`.
pub static OVERLAP: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(OVERLAPD).parent().unwrap();
    let program = folder.join(format!("overlap{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        // A test of the workspace builds it anyway; a test of this package alone does not.
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--locked", "--package", "overlap-client"])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .arg("--target-dir")
            .arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "overlap builds");
    }
    program
});

/// A node in its own process; ends with the value.
pub struct Node {
    pub organization: String,
    folder: TempDir,
    process: Option<Child>,
    starts: u32,
}

impl Node {
    /// Makes a node and starts it.
    pub fn new(organization: &str) -> Self {
        let mut node = Self::init(organization);
        node.start();
        node
    }

    /// Makes a node's directory.
    pub fn init(organization: &str) -> Self {
        let node = Self {
            organization: organization.to_owned(),
            folder: tempfile::tempdir().unwrap(),
            process: None,
            starts: 0,
        };
        let output = Command::new(OVERLAPD)
            .args(["init", "--organization", organization])
            .args(["--exchange-listen", "127.0.0.1:0"])
            .args(["--api-listen", "127.0.0.1:0"])
            .arg("--dir")
            .arg(node.dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        node
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    /// Writes a file beside the node's directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Starts the node and waits until it serves; from the first start on it keeps its ports.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the node is down");
        self.starts += 1;
        let path = |name| self.folder.path().join(format!("{name}-{}", self.starts));
        let (out, log) = (path("stdout"), path("log"));
        let mut process = Command::new(OVERLAPD)
            .arg("serve")
            .arg("--dir")
            .arg(self.dir())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        wait("the node serves", || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("overlapd: {status}: {}", fs::read_to_string(&log).unwrap());
            }
            fs::read_to_string(&out).unwrap().contains("overlapd ready")
        });
        self.process = Some(process);
        if self.starts == 1 {
            let addresses = self.addresses();
            let path = self.dir().join("overlapd.toml");
            let config = fs::read_to_string(&path).unwrap();
            let mut section = "exchange";
            let mut kept = String::new();
            for line in config.lines() {
                match line.trim() {
                    "[api]" => section = "api",
                    "[exchange]" => section = "exchange",
                    _ => {}
                }
                if line.starts_with("listen = ") {
                    let address = addresses[section].as_str().unwrap();
                    kept.push_str(&format!("listen = \"{address}\"\n"));
                } else {
                    kept.push_str(line);
                    kept.push('\n');
                }
            }
            fs::write(&path, kept).unwrap();
        }
    }

    /// Where the node listens.
    pub fn addresses(&self) -> Value {
        let path = self.dir().join("run/addresses.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Ends the node as a power cut would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the node is up");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn is_up(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// `overlap --dir DIR ARGUMENTS`, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = overlap();
        command.arg("--dir").arg(self.dir()).args(arguments);
        command
    }

    /// What a command prints; it succeeds and has nothing to complain about.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        assert!(output.stderr.is_empty(), "{}", describe(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command prints with `--output json`.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let mut command = self.command(arguments);
        let output = command.args(["--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", describe(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", describe(&output)))
    }

    /// The one line of a command that fails.
    pub fn refusal<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        refusal(&mut self.command(arguments))
    }

    pub fn import(&self, csv: &str) {
        let file = self.write("customers.csv", csv);
        self.run(["customers", "import", "--replace", file.to_str().unwrap()]);
    }

    /// Everything that a reader of the results sees.
    pub fn results(&self, partner: &str) -> (Value, Value) {
        (
            self.json(["matrix", partner]),
            self.json(["shared", partner]),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            for start in 1..=self.starts {
                let log = self.folder.path().join(format!("log-{start}"));
                let log = fs::read_to_string(log).unwrap_or_default();
                eprintln!("{} (start {start}):\n{log}", self.organization);
            }
        }
    }
}

/// `overlap`, away from the surroundings' settings.
pub fn overlap() -> Command {
    let mut command = Command::new(&*OVERLAP);
    for name in ["DIR", "NODE", "TOKEN", "TOKEN_FILE", "TLS_CA"] {
        command.env_remove(format!("OVERLAP_{name}"));
    }
    command.stdin(Stdio::null());
    command
}

/// The one line on standard error of a program that fails with exit code 1 and prints nothing else, without a request's id.
pub fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(output.stdout.is_empty(), "{}", describe(&output));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{}", describe(&output));
    assert!(text.ends_with('\n'), "{}", describe(&output));
    let line = text.trim_end();
    // What a node refuses ends with the id of the request, which is another every time.
    let Some((refusal, id)) = line.rsplit_once(" (request id: ") else {
        return line.to_owned();
    };
    assert!(id.starts_with("req_") && id.ends_with(')'), "{line}");
    refusal.to_owned()
}

pub fn describe(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until something holds.
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: not within a minute");
}

/// Two nodes that are partners.
pub fn pair() -> (Node, Node) {
    let (a, b) = (Node::new("Acme"), Node::new("Globex"));
    connect(&a, &b);
    (a, b)
}

pub fn connect(a: &Node, b: &Node) {
    let invite = a.json(["partner", "invite"])["invite"]
        .as_str()
        .unwrap()
        .to_owned();
    b.run(["partner", "accept", &invite]);
    for (node, partner) in [(a, b), (b, a)] {
        let shown = node.json(["partner", "show", &partner.organization]);
        assert_eq!(shown["state"], "CONNECTED");
    }
}

/// Both sides set their policy, the second as its answer to the first's proposal, and wait until both know.
pub fn agree((a, policy_a): (&Node, &str), (b, policy_b): (&Node, &str)) {
    let state = |node: &Node, partner: &Node, wanted: &str| {
        node.json(["sharing", "show", &partner.organization])["state"] == wanted
    };
    for (node, partner, policy) in [(a, b, policy_a), (b, a, policy_b)] {
        let file = node.write("policy.toml", policy);
        node.run([
            "sharing",
            "set",
            &partner.organization,
            "--file",
            file.to_str().unwrap(),
        ]);
        wait("the partner learns of it", || {
            state(partner, node, "AWAITING_MY_DECISION") || state(partner, node, "ACTIVE")
        });
    }
    wait("both sides agree", || {
        state(a, b, "ACTIVE") && state(b, a, "ACTIVE")
    });
}

/// A run that succeeds; what `overlap match` says of it.
pub fn run_match(node: &Node, partner: &Node) -> Value {
    let run = node.json(["match", &partner.organization]);
    assert_eq!(run["state"], "DONE");
    // The other side ends its part on its own.
    wait("the partner ends the run", || {
        let runs = partner.json(["runs", &node.organization, "--limit", "1"]);
        runs[0]["state"] == "DONE"
    });
    run
}
