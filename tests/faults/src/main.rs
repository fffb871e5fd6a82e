//! The command for faults on a real cluster.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use kube::{Client, Config};
use mainstay_faults::proxy::{Mood, Proxy};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Disturbs a controller on a real cluster
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stand between a controller and the API server that KUBECONFIG names
    ///
    /// It prints where it listens, on loopback, and how it behaves is written to its standard input, a line at a time:
    /// `honest` (as at first), `silent`, `reset`, `delay DURATION`, `stale RESOURCEVERSION`. It ends with its input. Every
    /// process of this machine that finds it has the rights of KUBECONFIG meanwhile, as with `kubectl proxy`.
    Proxy {
        /// Where the kubeconfig for the controller is written
        #[arg(long, value_name = "FILE")]
        write_kubeconfig: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Action::Proxy { write_kubeconfig } = Arguments::parse().action;
    match run(write_kubeconfig).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(kubeconfig: PathBuf) -> Result<(), String> {
    let mut config =
        Config::infer().await.map_err(|error| format!("KUBECONFIG names no cluster: {error}"))?;
    // What the API server says is for the controller, also when it refuses.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| format!("cannot use KUBECONFIG: {error}"))?;
    let proxy = Proxy::requests(client).await.map_err(|error| format!("cannot listen: {error}"))?;
    fs::write(&kubeconfig, proxy.kubeconfig().to_string())
        .map_err(|error| format!("cannot write {}: {error}", kubeconfig.display()))?;
    println!("http://{}", proxy.address());
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.parse::<Mood>() {
            Ok(mood) => {
                println!("{mood:?}");
                proxy.set(mood);
            }
            Err(error) => eprintln!("mainstay-faults: {error}"),
        }
    }
    drop(fs::remove_file(&kubeconfig));
    Ok(())
}
