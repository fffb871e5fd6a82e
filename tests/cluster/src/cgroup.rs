//! The cgroup that holds the real node's pods, in whichever hierarchies the machine has: v1, v2 or both.

use crate::{
    error::{Context, Error, Result},
    layout::Layout,
    process::{pids, proc_file},
    progress::wait_until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the cluster's cgroup in every hierarchy: the kubelet demands that its root exists.
pub(crate) fn create(layout: &Layout) -> Result<()> {
    for hierarchy in hierarchies() {
        let path = hierarchy.join(&layout.name);
        fs::create_dir_all(&path).context(|| format!("cannot make the cgroup {}", path.display()))?;
        if hierarchy == Path::new(ROOT) {
            // cgroup v2 hands controllers down only where asked; which of them exist differs.
            for controller in ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"] {
                for folder in [&hierarchy, &path] {
                    let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
    }
    Ok(())
}

/// The processes in the cluster's cgroup.
pub(crate) fn processes(layout: &Layout) -> Vec<u32> {
    let inside = |pid: &u32| {
        fs::read_to_string(proc_file(*pid, "cgroup")).is_ok_and(|text| belongs(&text, &layout.name))
    };
    pids().into_iter().filter(inside).collect()
}

/// Removes the cluster's cgroup; its processes must have ended.
pub(crate) fn remove(layout: &Layout) -> Result<()> {
    for path in hierarchies().iter().map(|hierarchy| hierarchy.join(&layout.name)) {
        // The kernel takes a moment to let go of a cgroup whose last process has ended.
        let gone = wait_until(Duration::from_secs(5), || {
            remove_tree(&path);
            Ok(!path.exists())
        })?;
        if !gone {
            return Err(Error::Refused(format!(
                "cannot remove the cgroup {}: it is still used",
                path.display()
            )));
        }
    }
    Ok(())
}

fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return vec![ROOT.into()];
    }
    let folders = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    // Links such as cpu -> cpu,cpuacct name a hierarchy a second time.
    folders.filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

/// A cgroup is removed from its leaves up; its files go with it.
fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Whether /proc/PID/cgroup names a cgroup below `/name`.
fn belongs(text: &str, name: &str) -> bool {
    let below = format!("/{name}/");
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| path.starts_with(&below))
}

#[cfg(test)]
mod tests {
    use super::belongs;

    #[test]
    fn only_cgroups_below_the_clusters_own_belong_to_it() {
        assert!(belongs("4:memory:/mainstay/kubepods/pod1\n0::/\n", "mainstay"));
        assert!(!belongs("4:memory:/mainstay-other/kubepods\n0::/\n", "mainstay"));
        assert!(!belongs("4:memory:/other/mainstay/x\n0::/\n", "mainstay"));
    }
}
