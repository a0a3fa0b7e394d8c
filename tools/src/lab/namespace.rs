//! Namespaces: making one, commands in one, and removing those of a lab, also of one that is gone.
//!
//! Not here: which there are, and what is in them; see [`super::network`].

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cargo::{line_of, stdout_of, succeed};

/// What every namespace and folder of a lab starts with, before the id of its process.
pub(super) const PREFIX: &str = "hedgerow-lab-";

/// Removes namespaces and folders of labs whose process is gone.
pub(super) fn clean() -> Result<()> {
    let mut prefixes: Vec<String> = namespaces()?.iter().filter_map(|name| left_behind(name)).collect();
    prefixes.dedup();
    for prefix in &prefixes {
        remove(prefix);
        println!("lab: removed the namespaces {prefix}*");
    }
    let temporary = std::env::temp_dir();
    let mut folders = 0;
    for entry in std::fs::read_dir(&temporary).with_context(|| format!("reading {}", temporary.display()))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| left_behind(name).is_some()) {
            std::fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
            println!("lab: removed {}", entry.path().display());
            folders += 1;
        }
    }
    if prefixes.is_empty() && folders == 0 {
        println!("lab: nothing was left");
    }
    Ok(())
}

/// The prefix of what is named `name`, if it is of a lab whose process is gone.
fn left_behind(name: &str) -> Option<String> {
    let (id, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    (is_id && !Path::new("/proc").join(id).exists()).then(|| format!("{PREFIX}{id}-"))
}

/// Removes all namespaces with this prefix, and ends what runs in them. What cannot be removed is said, and left to `clean`.
pub(super) fn remove(prefix: &str) {
    let ours: Vec<String> = namespaces().unwrap_or_default().into_iter().filter(|name| name.starts_with(prefix)).collect();
    for name in &ours {
        let output = Command::new("ip").args(["netns", "pids", name]).output();
        let ids = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for id in ids.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", id]).stderr(Stdio::null()).status();
        }
    }
    for name in &ours {
        if let Err(error) = ip(&format!("netns delete {name}")) {
            eprintln!("lab: {error:#}; `cargo tools lab clean` tries again");
        }
    }
}

fn namespaces() -> Result<Vec<String>> {
    let listed = stdout_of(Command::new("ip").args(["netns", "list"]))?;
    Ok(listed.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect())
}

/// Makes a namespace.
pub(super) fn add(name: &str) -> Result<()> {
    ip(&format!("netns add {name}"))?;
    batch(name, &["link set lo up".to_owned()])
}

/// Lets a namespace pass packets on.
pub(super) fn forward(namespace: &str) -> Result<()> {
    succeed(Command::new("ip").args(["netns", "exec", namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
}

/// Limits what an interface sends.
pub(super) fn shape(namespace: &str, interface: &str, mbit: u64, burst_bytes: u64, queue: Duration) -> Result<()> {
    let line =
        format!("-n {namespace} qdisc add dev {interface} root tbf rate {mbit}mbit burst {burst_bytes} latency {}ms", queue.as_millis());
    succeed(Command::new("tc").args(line.split(' ')))
}

/// One command of `ip`.
pub(super) fn ip(line: &str) -> Result<()> {
    succeed(Command::new("ip").args(line.split(' ')))
}

/// Several commands of `ip` in a namespace.
pub(super) fn batch(namespace: &str, lines: &[String]) -> Result<()> {
    feed(Command::new("ip").args(["-n", namespace, "-batch", "-"]), &lines.join("\n"))
}

/// Gives rules to nftables in a namespace.
pub(super) fn nft(namespace: &str, rules: &str) -> Result<()> {
    feed(Command::new("ip").args(["netns", "exec", namespace, "nft", "-f", "-"]), rules)
}

fn feed(command: &mut Command, text: &str) -> Result<()> {
    let line = line_of(command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    child.stdin.take().context("a child has no stdin")?.write_all(format!("{text}\n").as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed ({status}) with\n{text}\nits own output above says why");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lab_left_that_is_gone_is_removed() {
        let running = format!("{PREFIX}{}-seed", std::process::id());
        assert_eq!(left_behind(&running), None);
        assert_eq!(left_behind("hedgerow-lab-4294967295-seed"), Some("hedgerow-lab-4294967295-".to_owned()));
        for other in ["hedgerow-lab-", "hedgerow-lab-x-seed", "hedgerow-device-1-x", "hedgerow-lab-7"] {
            assert_eq!(left_behind(other), None, "{other}");
        }
    }
}
