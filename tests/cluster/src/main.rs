//! The command that builds, starts, inspects and removes the cluster.

use clap::{Args, Parser, Subcommand};
use mainstay_cluster::{
    Cluster, Error, Image, Layout, Options, Progress, Result, build, catch_interrupts, discover_pods, down,
    existing_version, up,
};
use std::{
    collections::BTreeMap,
    env,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// Starts a real Kubernetes 1.36 on this machine, in a network namespace of its own.
///
/// The API server, https://10.88.0.1:6443, is reached only from inside that namespace: `mainstay-cluster
/// exec -- COMMAND` runs a command there. One cluster a machine; MAINSTAY_CLUSTER_NAME names another,
/// MAINSTAY_CLUSTER_DIR moves its state from /run, MAINSTAY_CACHE the built servers from ~/.cache.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the servers that are not in the cache yet
    Build,
    /// Bring the cluster up, or add what a running one lacks
    Up(UpArguments),
    /// Stop the cluster and remove all that belongs to it
    Down,
    /// Tell what runs; fails when something that should run does not
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the path of the admin kubeconfig, which works only inside the network namespace (see exec)
    Kubeconfig,
    /// Run a command in the network namespace, with KUBECONFIG and PATH set
    Exec {
        /// Run it as it is, for the cluster that KUBECONFIG names
        #[arg(long)]
        existing: bool,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Start a stopped component, or a further one of a kind
    Start {
        /// Name of a further one; it needs a port of its own, like --secure-port=10300
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        component: Component,
    },
    /// Stop a component
    Stop {
        /// Name, as `status` shows it
        component: String,
    },
    /// Kill a component, as a crash does; `start` brings it back
    Kill {
        /// Name, as `status` shows it
        component: String,
    },
    /// Restart a component; flags replace those of an earlier restart
    Restart(Component),
    /// Stop or start a zone's fake nodes
    #[command(subcommand)]
    Zone(Zone),
    /// Load OCI archives into the real node's containerd
    LoadImage {
        /// Archives, as `build-image` writes them
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run by the cluster itself: tell Prometheus which pods to scrape
    #[command(hide = true)]
    DiscoverPods {
        /// Kubeconfig that may watch pods
        #[arg(long)]
        kubeconfig: PathBuf,
        /// File to write
        #[arg(long)]
        targets: PathBuf,
    },
    /// Write a container image from files, without a container daemon
    BuildImage(ImageArguments),
}

#[derive(Args)]
struct UpArguments {
    /// Fake nodes [default: 6]
    #[arg(long)]
    nodes: Option<usize>,
    /// Zones the fake nodes are spread over [default: 3]
    #[arg(long)]
    zones: Option<usize>,
    /// Also run Prometheus at http://10.88.0.1:9090, scraping pods of the real node annotated prometheus.io/scrape
    #[arg(long)]
    prometheus: bool,
    /// Start nothing; use the cluster that KUBECONFIG names
    #[arg(long)]
    existing: bool,
}

#[derive(Args)]
struct Component {
    /// Name, as `status` shows it
    component: String,
    /// Flags, as --flag=value, that replace usual flags of the same name or are added
    #[arg(last = true)]
    flags: Vec<String>,
}

#[derive(Subcommand)]
enum Zone {
    /// Let a zone's nodes go silent
    Stop {
        /// Name, like zone-a
        zone: String,
    },
    /// Bring a zone's nodes back
    Start {
        /// Name, like zone-a
        zone: String,
    },
}

#[derive(Args)]
struct ImageArguments {
    /// Name with host and tag, like localhost/x:dev
    #[arg(long)]
    name: String,
    /// Archive to write
    #[arg(long)]
    output: PathBuf,
    /// Program the image runs, if whoever runs it names no other
    #[arg(long)]
    entrypoint: Option<String>,
    /// User it runs as
    #[arg(long, default_value = "65532:65532")]
    user: String,
    /// Environment variable, KEY=value
    #[arg(long, value_parser = pair)]
    env: Vec<(String, String)>,
    /// Label, KEY=value
    #[arg(long, value_parser = pair)]
    label: Vec<(String, String)>,
    /// Add the shared libraries that the files need
    #[arg(long)]
    with_libs: bool,
    /// Files, SOURCE=/destination
    #[arg(required = true, value_parser = pair)]
    files: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`"))?;
    Ok((key.into(), value.into()))
}

fn main() -> ExitCode {
    match run(Arguments::parse().action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mainstay-cluster: {error}");
            ExitCode::from(if matches!(error, Error::Interrupted) { 130 } else { 1 })
        }
    }
}

fn run(action: Action) -> Result<ExitCode> {
    // A command that runs until it is ended must end on SIGTERM.
    if !matches!(action, Action::DiscoverPods { .. }) {
        catch_interrupts();
    }
    let progress = Progress::new();
    match action {
        Action::Build => println!("{}", build(&progress)?.bin().display()),
        Action::Up(UpArguments { existing: true, .. }) => {
            progress.say(format_args!("the cluster answers: Kubernetes {}", existing_version()?));
        }
        Action::Up(UpArguments { nodes, zones, prometheus, .. }) => {
            up(&Layout::from_env()?, &Options { nodes, zones, prometheus }, &progress)?;
        }
        Action::Down => down(&Layout::from_env()?, &progress)?,
        Action::Status { json } => return status(json),
        Action::Kubeconfig => println!("{}", Cluster::open()?.kubeconfig().display()),
        Action::Exec { existing, command } => return exec(existing, &command),
        Action::Start { name, component: Component { component, flags } } => {
            let name = name.as_ref().unwrap_or(&component);
            Cluster::open()?.start_as(name, &component, &flags)?;
            progress.say(format_args!("{name} ready"));
        }
        Action::Stop { component } => {
            Cluster::open()?.stop(&component)?;
            progress.say(format_args!("{component} stopped"));
        }
        Action::Kill { component } => {
            Cluster::open()?.kill(&component)?;
            progress.say(format_args!("{component} killed"));
        }
        Action::Restart(Component { component, flags }) => {
            Cluster::open()?.restart(&component, &flags)?;
            progress.say(format_args!("{component} ready"));
        }
        Action::Zone(Zone::Stop { zone }) => {
            Cluster::open()?.zone_stop(&zone)?;
            progress.say(format_args!("{zone} stopped"));
        }
        Action::Zone(Zone::Start { zone }) => {
            Cluster::open()?.zone_start(&zone)?;
            progress.say(format_args!("{zone} ready"));
        }
        Action::LoadImage { archives } => load_images(&archives, &progress)?,
        Action::BuildImage(arguments) => build_image(arguments)?,
        Action::DiscoverPods { kubeconfig, targets } => discover_pods(&kubeconfig, &targets)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load_images(archives: &[PathBuf], progress: &Progress) -> Result<()> {
    let cluster = Cluster::open()?;
    for archive in archives {
        cluster.load_image(archive)?;
        progress.say(format_args!("{} loaded", archive.display()));
    }
    Ok(())
}

fn status(json: bool) -> Result<ExitCode> {
    let status = Cluster::open()?.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status).expect("a status is plain data"));
    } else {
        println!("{status}");
    }
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Becomes the command, so that its signals and exit code are its own.
fn exec(existing: bool, words: &[String]) -> Result<ExitCode> {
    let mut command = if existing {
        Command::new(&words[0])
    } else {
        let cluster = Cluster::open()?;
        cluster.enter()?;
        let command = cluster.command(&words[0]);
        // The command itself is looked up in this process's PATH, so it must hold the built programs too.
        find(&words[0], &command).unwrap_or(command)
    };
    let source = command.args(&words[1..]).exec();
    Err(Error::Io { what: format!("cannot run {}", words[0]), source })
}

/// `command` with its program replaced by the first match in the PATH it will have.
fn find(program: &str, command: &Command) -> Option<Command> {
    let path = command.get_envs().find(|(name, _)| *name == "PATH")?.1?;
    let found = env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())?;
    let mut found = Command::new(found);
    found.arg0(program);
    found.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(found)
}

fn build_image(arguments: ImageArguments) -> Result<()> {
    let mut image = Image {
        name: arguments.name,
        entrypoint: arguments.entrypoint,
        user: arguments.user,
        env: arguments.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        labels: arguments.label.into_iter().collect(),
        files: arguments
            .files
            .into_iter()
            .map(|(source, destination)| (destination.into(), source.into()))
            .collect::<BTreeMap<_, _>>(),
    };
    if arguments.with_libs {
        image.add_libraries()?;
    }
    image.write(&arguments.output)
}
