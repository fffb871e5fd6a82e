//! Removes a cluster, or what a crash left of one, and nothing else.
//!
//! What belongs to a cluster: the processes its records name (pid and start time), those in its network
//! namespace and those in its cgroup; the mounts below its two folders; the namespace, the cgroup, the
//! folders, and the few files that CNI, containerd and the kubelet write elsewhere under its name.

use crate::{
    cgroup,
    error::{Context, Error, Result},
    layout::Layout,
    lock::Lock,
    netns::{Namespace, mount_points},
    process::{Process, own_line},
    progress::{Progress, wait_until},
    requirements, supervise,
};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::Signal,
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Stops the cluster and removes all that it left. Nothing to remove is no error.
pub fn down(layout: &Layout, progress: &Progress) -> Result<()> {
    requirements::root("removing a cluster")?;
    let _lock = Lock::take(&layout.lock())?;
    if !clear(layout, progress)? {
        progress.say("no cluster was up");
    }
    Ok(())
}

/// Removes the cluster at `layout`; false when there was nothing. The caller holds the lock.
pub(crate) fn clear(layout: &Layout, progress: &Progress) -> Result<bool> {
    let namespace = Namespace::of(layout);
    if !layout.state.exists() && !layout.data.exists() && !layout.namespace().exists() {
        return Ok(false);
    }
    if fs::read_dir(&layout.state).is_ok_and(|mut files| files.next().is_some())
        && !layout.components().exists()
    {
        let sentence =
            format!("{} holds files, but no cluster: choose another folder", layout.state.display());
        return Err(Error::Refused(sentence));
    }
    let ended = end_processes(layout, &namespace)?;
    remove_foreign_files(layout);
    unmount_below(&[&layout.state, &layout.data])?;
    namespace.delete()?;
    cgroup::remove(layout)?;
    // The state folder goes last: as long as it is there, the next command knows what to clear.
    remove_folder(&layout.data)?;
    remove_folder(&layout.state)?;
    progress.say(format_args!("cluster removed ({ended} processes ended)"));
    Ok(true)
}

/// Kills until nothing of the cluster lives; its data dies with it, so nothing need end gracefully. This
/// command and those it descends from are spared, for it may run inside the namespace.
fn end_processes(layout: &Layout, namespace: &Namespace) -> Result<usize> {
    let spared = own_line();
    let mut ended = BTreeSet::new();
    let mut left = Vec::new();
    let gone = wait_until(Duration::from_secs(20), || {
        left = living(layout, namespace)?;
        left.retain(|process| !spared.contains(&process.pid));
        for process in &left {
            process.signal(Signal::KILL)?;
            ended.insert(process.pid);
        }
        Ok(left.is_empty())
    })?;
    if gone {
        return Ok(ended.len());
    }
    let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
    Err(Error::Refused(format!("processes {} do not end, even when killed", pids.join(", "))))
}

fn living(layout: &Layout, namespace: &Namespace) -> Result<Vec<Process>> {
    let recorded = supervise::records(layout).into_iter().map(|record| record.process);
    let found = namespace.processes()?.into_iter().chain(cgroup::processes(layout));
    Ok(recorded.filter(Process::alive).chain(found.filter_map(Process::of)).collect())
}

/// Unmounts what lies below `folders`, the latest mount first.
fn unmount_below(folders: &[&Path]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context(|| "cannot read the mounts".into())?;
    let points: Vec<&Path> = mount_points(&mounts).map(Path::new).collect();
    for point in points.iter().rev().filter(|point| folders.iter().any(|folder| point.starts_with(folder))) {
        match unmount(*point, UnmountFlags::DETACH) {
            // Gone with a mount above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error).context(|| format!("cannot unmount {}", point.display())),
        }
    }
    Ok(())
}

/// Removes what other programs keep of this cluster in folders of their own.
fn remove_foreign_files(layout: &Layout) {
    // containerd's shims listen in /run/containerd/s, at the address their bundle names.
    for bundle in entries(&layout.state.join("containerd/io.containerd.runtime.v2.task/k8s.io")) {
        let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            let _ = fs::remove_file(socket);
        }
    }
    // CNI's results are called after the network.
    let ours = format!("{}-", layout.name);
    for result in entries(Path::new("/var/lib/cni/results")) {
        if result.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours)) {
            let _ = fs::remove_file(result);
        }
    }
    // The kubelet links each container's log for log collectors.
    for link in entries(Path::new("/var/log/containers")) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(&layout.data)) {
            let _ = fs::remove_file(link);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
