//! One command at a time changes a cluster or a cache. The kernel frees the lock when its holder dies.

use crate::{
    error::{Context, Error, Result},
    progress::{Progress, wait_until},
};
use std::{
    env,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or fails with [`Error::Locked`] when another command holds it.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let what = || format!("cannot lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(Error::Locked { holder });
            }
            Err(TryLockError::Error(error)) => return Err(error).context(what),
        }
        let command = env::args().collect::<Vec<_>>().join(" ");
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| write!(file, "process {}: {command}", std::process::id()))
            .context(what)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, waiting for its holder up to `deadline`.
    pub(crate) fn wait(path: &Path, deadline: Duration, progress: &Progress) -> Result<Self> {
        let mut taken = Self::take(path);
        if let Err(Error::Locked { holder }) = &taken {
            progress.say(format_args!("waiting for {holder}"));
            wait_until(deadline, || {
                taken = Self::take(path);
                Ok(!matches!(taken, Err(Error::Locked { .. })))
            })?;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_learns_who_holds_the_lock_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        Lock::take(&path).unwrap();
    }
}
