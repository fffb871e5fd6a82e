//! What a bench leaves behind: its table in the documentation, its rows as JSON.

use crate::error::{Context, Error, Result};
use kube::Client;
use std::{fs, path::Path, process::Command};

/// Replaces what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in `text`; none when the
/// markers are not there.
fn replace_section(text: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", section.trim()))
}

/// Puts `section` into the document at `path`.
pub(crate) fn write_section(path: &Path, name: &str, section: &str) -> Result<()> {
    let failed = |what: &str| format!("cannot {what} {}", path.display());
    let text = fs::read_to_string(path).map_err(|source| Error::io(failed("read"), source))?;
    let text = replace_section(&text, name, section).ok_or_else(|| {
        Error::Refused(format!("{} has no <!-- {name}:begin --> and <!-- {name}:end -->", path.display()))
    })?;
    fs::write(path, text).map_err(|source| Error::io(failed("write"), source))
}

/// Writes `value` as JSON to `path`, whose folder exists.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("rows are plain data");
    fs::write(path, text).map_err(|source| Error::io(format!("cannot write {}", path.display()), source))
}

/// One line on what was measured where.
pub(crate) async fn environment(client: &Client) -> Result<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory, kernel) =
        (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/sys/kernel/osrelease"));
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kilobytes = memory.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    let gibibytes = kilobytes.unwrap_or_default() / (1 << 20) as f64;
    // What follows the version is the distributor's.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let kubernetes = client.apiserver_version().await.when("read the server's version")?.git_version;
    let (version, commit) = (env!("CARGO_PKG_VERSION"), commit());
    Ok(format!(
        "{model}, {cores} CPUs, {gibibytes:.0} GiB; Linux {kernel}; Kubernetes {kubernetes}; \
         Mainstay {version}{commit}"
    ))
}

/// The checked-out commit, where there is one.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output =
            Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    format!(" at {commit}{}", if changed { ", with local changes" } else { "" })
}

/// The command that made a document, without the folder of its program.
pub(crate) fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words: Vec<String> = std::iter::once(name).chain(words).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::replace_section;

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let text = "intro\n<!-- a:begin -->\nold\n<!-- a:end -->\n<!-- b:begin -->\nb\n<!-- b:end -->\nend\n";
        let new = replace_section(text, "a", "new\n").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert_eq!(replace_section(&new, "a", "new").unwrap(), new);
        assert_eq!(replace_section(text, "c", "new"), None);
    }
}
