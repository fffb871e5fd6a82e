//! The cluster's network namespace: every component, load and fault runs in it, so nothing of the machine's
//! own network is touched, and whatever lives in it belongs to the cluster.
//!
//! Processes enter by `setns` alone. `ip netns exec` would also remount /sys, which hides the cgroups.

use crate::{
    error::{Context, Result, output},
    layout::{HOST_ADDRESS, HOST_ADDRESS_V6, Layout, SERVICE_RANGE, SERVICE_RANGE_V6, has_ipv6},
    process::{pids, proc_file},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
    process::{Child, Command},
    thread,
};

/// A named network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// The namespace of a cluster, whether it exists or not.
    pub(crate) fn of(layout: &Layout) -> Self {
        Self { name: layout.name.clone(), path: layout.namespace() }
    }

    /// Whether the namespace exists. A plain file, left when mounts went away, does not count.
    pub(crate) fn exists(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mount_points(&mounts).any(|point| point == self.path.as_os_str().to_string_lossy())
    }

    /// Makes the namespace with the cluster's addresses on its loopback device.
    pub(crate) fn create(&self) -> Result<()> {
        output(Command::new("ip").args(["netns", "add", &self.name]))?;
        let address = format!("{HOST_ADDRESS}/32");
        for words in [
            ["link", "set", "lo", "up"].as_slice(),
            &["addr", "add", &address, "dev", "lo"],
            &["route", "add", SERVICE_RANGE, "dev", "lo"],
        ] {
            self.output(Command::new("ip").args(words))?;
        }
        self.forward("/proc/sys/net/ipv4/ip_forward")?;
        if has_ipv6() {
            let address = format!("{HOST_ADDRESS_V6}/128");
            for words in [
                ["-6", "addr", "add", &address, "dev", "lo"].as_slice(),
                &["-6", "route", "add", SERVICE_RANGE_V6, "dev", "lo"],
            ] {
                self.output(Command::new("ip").args(words))?;
            }
            self.forward("/proc/sys/net/ipv6/conf/all/forwarding")?;
        }
        Ok(())
    }

    fn forward(&self, switch: &str) -> Result<()> {
        self.run(|| fs::write(switch, "1"))?.context(|| format!("cannot write {switch}"))
    }

    /// Removes the namespace; processes in it keep it alive unnamed, so end those first.
    pub(crate) fn delete(&self) -> Result<()> {
        if self.exists() {
            rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH)
                .context(|| format!("cannot unmount {}", self.path.display()))?;
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Moves the calling thread into the namespace for good.
    pub(crate) fn enter(&self) -> Result<()> {
        let file = File::open(&self.path)
            .context(|| format!("cannot open the namespace {}", self.path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context(|| format!("cannot enter the namespace {}", self.path.display()))
    }

    /// Runs `work` on a thread of its own inside the namespace; children it starts are born there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `command` inside to its end; see [`output`].
    pub(crate) fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| output(command))?
    }

    /// Starts `command` inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.run(|| command.spawn())?.context(|| format!("cannot start {}", program.display()))
    }

    /// The processes that live in the namespace now.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let own = fs::metadata(&self.path).context(|| format!("cannot read {}", self.path.display()))?;
        let inside = |pid: &u32| {
            fs::metadata(proc_file(*pid, "ns/net"))
                .is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()))
        };
        Ok(pids().into_iter().filter(inside).collect())
    }
}

/// Mount points of /proc/self/mountinfo, in the order they were mounted.
pub(crate) fn mount_points(mountinfo: &str) -> impl DoubleEndedIterator<Item = &str> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4))
}

#[cfg(test)]
mod tests {
    use super::mount_points;

    #[test]
    fn mount_points_are_read_from_the_fifth_field() {
        let text = "22 1 0:20 / / rw - ext4 /dev/vda rw\n40 22 0:4 net:[4026] /run/netns/a rw - nsfs nsfs rw";
        assert_eq!(mount_points(text).collect::<Vec<_>>(), ["/", "/run/netns/a"]);
    }
}
