//! Processes as /proc tells of them. A process is a pid *and* its start time, so that a record of a dead
//! process is never taken for the stranger that inherited its pid.

use crate::error::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize, Serializer};
use std::{fs, path::PathBuf, time::Duration};

/// One process of this boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Clock ticks between boot and the process's start.
    started: u64,
    /// The kernel's id of this boot.
    boot: String,
}

/// What a process has cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Time on the CPU, user and system, since the process started.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident_bytes: u64,
    /// Highest resident memory so far, in bytes (`VmHWM`).
    pub peak_resident_bytes: u64,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Process {
    /// The process that has this pid now; none when there is no such process or it is a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        (!stat.dead()).then_some(Self { pid, started: stat.started, boot })
    }

    /// Whether this very process still runs.
    pub fn alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends `signal` to this very process, whoever gets its pid meanwhile. A dead process is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        // The pidfd is opened before the identity is checked: from then on the pid cannot change hands.
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.alive() {
            return Ok(());
        }
        match pidfd_send_signal(fd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Sends `signal` to the process group that this very process leads, if it still runs.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        if !self.alive() {
            return Ok(());
        }
        match kill_process_group(pid, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.context(|| format!("cannot signal process group {}", self.pid)),
        }
    }

    /// What the process has cost so far; none when it is dead.
    pub fn usage(&self) -> Option<Usage> {
        let stat = Stat::read(self.pid).filter(|stat| stat.started == self.started && !stat.dead())?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let cpu = Duration::from_secs_f64(stat.cpu as f64 / rustix::param::clock_ticks_per_second() as f64);
        let bytes = |field| kilobytes(&status, field).map(|kilobytes| kilobytes * 1024);
        Some(Usage { cpu, resident_bytes: bytes("VmRSS:")?, peak_resident_bytes: bytes("VmHWM:")? })
    }
}

/// Every pid of the machine.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// This process and those it descends from.
pub(crate) fn own_line() -> Vec<u32> {
    let mut line = vec![std::process::id()];
    while let Some(parent) = line.last().and_then(|pid| Stat::read(*pid)).map(|stat| stat.parent) {
        if parent == 0 {
            break;
        }
        line.push(parent);
    }
    line
}

/// Path of a file in a process's /proc folder.
pub(crate) fn proc_file(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// The fields of /proc/PID/stat that matter here (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    parent: u32,
    cpu: u64,
    threads: u64,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(proc_file(pid, "stat")).ok()?)
    }

    /// The command's name may hold spaces and parentheses; the fields after its last `)` are plain.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(1)?).ok()?,
            cpu: number(11)? + number(12)?,
            threads: number(17)?,
            started: number(19)?,
        })
    }

    /// The state is that of the first thread: while others still end, the process holds its ports and files.
    fn dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn stat_survives_hostile_command_names() {
        let text = "42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 9001 1 1";
        assert_eq!(
            Stat::parse(text),
            Some(Stat { state: 'S', parent: 7, cpu: 42, threads: 1, started: 9001 })
        );
        assert_eq!(Stat::parse("42 (cut"), None);
    }

    #[test]
    fn a_record_is_stale_once_its_process_died_or_its_pid_changed_hands() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.alive());
        assert!(process.usage().unwrap().resident_bytes > 0);
        let stranger = Process { started: process.started + 1, ..process.clone() };
        assert!(!stranger.alive());
        stranger.signal(Signal::KILL).unwrap();
        assert!(process.alive(), "a stale record must not reach the pid's new owner");
        let other_boot = Process { boot: "other".into(), ..process.clone() };
        assert!(!other_boot.alive());

        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.alive());
        assert_eq!(process.usage(), None);
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn the_own_line_starts_here_and_ends_at_a_root() {
        let line = own_line();
        assert_eq!(line[0], std::process::id());
        assert_eq!(line[1], std::os::unix::process::parent_id());
    }
}
