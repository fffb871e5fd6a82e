//! The frame of every bench: what they are all told, and what becomes of their results.

use crate::{
    bed::Bed,
    document,
    error::{Error, Result},
    side::Stage,
};
use clap::Args;
use serde::Serialize;
use std::{fs, path::PathBuf, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long the cluster may take to be put back.
const CLEAR_LIMIT: Duration = Duration::from_secs(600);

/// What every bench can be told.
#[derive(Args)]
pub(crate) struct Common {
    /// Rounds of the sides that have no client limit
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Rounds of the sides at default client limits, 20 requests a second, which take long; 0 = none
    #[arg(long, default_value_t = 1)]
    pub limited_rounds: u32,
    /// Ends the bench, whatever it does, after this many minutes
    #[arg(long, default_value_t = 150)]
    max_minutes: u64,
    /// The program `mainstay` [default: the one beside this program]
    #[arg(long)]
    controller: Option<PathBuf>,
    /// Document whose section of the bench's name is written
    #[arg(long, default_value = "docs/benchmarks.md")]
    document: PathBuf,
    /// Folder for the rows as measured, as JSON, and the controller's log
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

impl Common {
    /// Prepares the cluster for turns of a `controller` beside the controllers `upstream` of kube-controller-manager.
    pub(crate) async fn stage<'a>(
        &self,
        bed: &'a mut Bed,
        controller: &str,
        upstream: &'static [&'static str],
    ) -> Result<Stage<'a>> {
        let program = self.program()?;
        let account = bed.prepare(controller).await?;
        let log = self.output.join(format!("mainstay-{controller}.log"));
        Ok(Stage { bed, account, program, log, upstream, flags: &[] })
    }

    fn program(&self) -> Result<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("mainstay"));
        let program = self.controller.clone().or_else(beside).unwrap_or_default();
        if program.is_file() {
            return Ok(program);
        }
        Err(Error::Refused(format!(
            "{} is missing: build it with `cargo build --release -p mainstay`",
            program.display()
        )))
    }
}

/// All that was measured, and where.
#[derive(Serialize)]
struct Measured<'a, D> {
    environment: &'a str,
    command: &'a str,
    #[serde(flatten)]
    data: &'a D,
}

/// Runs `measure`, puts the cluster back, and writes what was measured: as JSON also after a failure, into the
/// document's section `name`, as `section` puts it, only when it is complete.
pub(crate) async fn run<D: Default + Serialize>(
    name: &str,
    options: &Common,
    measure: impl AsyncFnOnce(&mut Bed, &mut D) -> Result<()>,
    section: impl FnOnce(&D) -> String,
) -> Result<()> {
    run_and_clear(name, options, measure, async |_: &Bed| Ok(()), section).await
}

/// As [`run`], for a bench that makes something outside of the bed's namespace: `clear` removes it, also after a
/// failure and after Ctrl-C.
pub(crate) async fn run_and_clear<D: Default + Serialize>(
    name: &str,
    options: &Common,
    measure: impl AsyncFnOnce(&mut Bed, &mut D) -> Result<()>,
    clear: impl AsyncFnOnce(&Bed) -> Result<()>,
    section: impl FnOnce(&D) -> String,
) -> Result<()> {
    let limit = Duration::from_secs(options.max_minutes * 60);
    fs::create_dir_all(&options.output)
        .map_err(|source| Error::io(format!("cannot make {}", options.output.display()), source))?;
    let mut bed = Bed::open().await?;
    let (environment, command) = (document::environment(&bed.client).await?, document::command());
    let mut data = D::default();
    let result = bounded(limit, measure(&mut bed, &mut data)).await;
    if let Err(error) = &result {
        bed.progress.say(format_args!("{error}; putting the cluster back"));
    }
    // A second Ctrl-C ends this too.
    let clear_all = async {
        let cleared = clear(&bed).await;
        cleared.and(bed.clear().await)
    };
    let cleared = bounded(CLEAR_LIMIT, clear_all).await;
    let measured = Measured { environment: &environment, command: &command, data: &data };
    document::write_json(&options.output.join(format!("{name}.json")), &measured)?;
    let section = format!("On {environment}, by `mainstay-cluster exec -- {command}`.\n{}", section(&data));
    println!("{section}");
    result?;
    document::write_section(&options.document, name, &section)?;
    bed.progress.say(format_args!("{} written", options.document.display()));
    cleared
}

/// `work`, but no longer than `limit`, and ended by Ctrl-C and SIGTERM.
async fn bounded<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let listen = |kind| signal(kind).map_err(|source| Error::io("cannot listen for signals", source));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
        () = tokio::time::sleep(limit) => Err(Error::OutOfTime(limit)),
    }
}
