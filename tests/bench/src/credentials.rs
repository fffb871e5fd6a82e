//! Runs a controller with the rights that the chart gives it, and no others.

use crate::{
    error::{Context, Error, Result},
    names::NAMESPACE,
};
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use mainstay_cluster::Cluster;
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

const RELEASE: &str = "mainstay-bench";
const CHART: &str = "charts/mainstay";
/// What of the chart is installed: the account and its rights. The controller itself runs as a process.
const KINDS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// A ServiceAccount to run a controller with.
pub(crate) struct Account {
    /// Its name, which is also the name of the Lease that it may hold.
    pub name: String,
    /// The controller that runs with it, as the program calls it.
    pub controller: String,
    /// A kubeconfig with a token of it.
    pub kubeconfig: PathBuf,
    /// How much the chart has the controller do at the same time, as flags.
    pub bounds: Vec<String>,
}

impl Account {
    /// A connection of its own as this account.
    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).map_err(unusable)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
        config.default_retry = false;
        Client::try_from(config).when("connect to the cluster")
    }
}

fn unusable(error: KubeconfigError) -> Error {
    Error::Refused(format!("the kubeconfig cannot be used: {error}"))
}

/// Installs the ServiceAccount of the chart's `controller`, takes a token for it, and writes `kubeconfig` with it.
pub(crate) async fn make(
    cluster: &Cluster,
    client: &Client,
    controller: &str,
    kubeconfig: PathBuf,
) -> Result<Account> {
    let version = client.apiserver_version().await.when("read the server's version")?.git_version;
    let template = format!("templates/{controller}.yaml");
    let mut helm = cluster.command("helm");
    helm.args(["template", RELEASE, CHART, "--namespace", NAMESPACE, "--show-only", &template]);
    // The one that is off by default.
    helm.args([
        "--kube-version",
        &version,
        "--set",
        "controllers.accounts.enabled=true,image.repository=unused",
    ]);
    let rendered = output(&mut helm, "")?;
    let rights = rights(&rendered);
    output(cluster.command("kubectl").args(["apply", "--filename", "-"]), &rights)?;
    let name = format!("{RELEASE}-{controller}");
    let mut kubectl = cluster.command("kubectl");
    kubectl.args(["create", "token", &name, "--namespace", NAMESPACE, "--duration", "12h"]);
    let token = output(&mut kubectl, "")?.trim().to_owned();
    write_kubeconfig(cluster, token, &kubeconfig)?;
    Ok(Account { name, controller: controller.to_owned(), kubeconfig, bounds: bounds(&rendered) })
}

/// Removes what [`make`] has put outside the namespace.
pub(crate) fn remove(cluster: &Cluster) -> Result<()> {
    let selector = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let mut kubectl = cluster.command("kubectl");
    output(kubectl.args(["delete", "clusterroles,clusterrolebindings", &selector]), "")?;
    let mut kubectl = cluster.command("kubectl");
    output(kubectl.args(["delete", "roles,rolebindings", "--all-namespaces", &selector]), "").map(drop)
}

/// The documents of the chart that give rights.
fn rights(rendered: &str) -> String {
    let gives = |document: &&str| {
        document
            .lines()
            .any(|line| line.strip_prefix("kind: ").is_some_and(|kind| KINDS.contains(&kind.trim())))
    };
    rendered.split("\n---").filter(gives).collect::<Vec<_>>().join("\n---")
}

/// The flags that bound what the controller does at the same time.
fn bounds(rendered: &str) -> Vec<String> {
    let flags = rendered.lines().filter_map(|line| line.trim().strip_prefix("- ")?.trim_matches('"').into());
    flags.filter(|flag: &&str| flag.starts_with("--max-")).map(str::to_owned).collect()
}

fn write_kubeconfig(cluster: &Cluster, token: String, path: &PathBuf) -> Result<()> {
    let mut config = Kubeconfig::read_from(cluster.kubeconfig()).map_err(unusable)?;
    for user in &mut config.auth_infos {
        user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
    }
    let text = serde_json::to_string(&config).expect("a kubeconfig is plain data");
    fs::write(path, text).map_err(|source| Error::io(format!("cannot write {}", path.display()), source))
}

/// Runs `command` with `input` to its end and returns what it printed.
fn output(command: &mut Command, input: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Error::io(format!("cannot run {program}"), source);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    // The pipe is closed at the end of the statement, or the program would wait for more.
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).map_err(failed)?;
    let result = child.wait_with_output().map_err(failed)?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    Err(Error::Refused(format!("{program} failed: {}", String::from_utf8_lossy(&result.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::{bounds, rights};

    #[test]
    fn a_controller_is_bounded_as_the_chart_has_it() {
        let rendered = "args:\n  - \"--log-level=info\"\n  - \"--max-in-flight-writes=64\"\n";
        assert_eq!(bounds(rendered), ["--max-in-flight-writes=64"]);
    }

    #[test]
    fn only_documents_that_give_rights_are_installed() {
        let rendered =
            "---\nkind: ServiceAccount\nname: a\n---\nkind: Deployment\nname: b\n---\nkind: Role\nname: c";
        let rights = rights(rendered);
        assert!(rights.contains("name: a") && rights.contains("name: c"), "{rights}");
        assert!(!rights.contains("name: b"), "{rights}");
    }
}
