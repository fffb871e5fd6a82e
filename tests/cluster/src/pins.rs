//! What is built: the Go modules pinned under go/, each with its checksums, and the programs of each.
//!
//! Kubernetes is built with exactly what it was released with. The tools beside it are built with Kubernetes' version of
//! whatever both use, so that Go compiles that once: it is most of what they consist of. The pins are compiled in, so the
//! command needs no checkout.

use sha2::{Digest, Sha256};

/// A pinned Go module and what is built from it.
pub(crate) struct Module {
    /// Folder under go/.
    pub name: &'static str,
    /// The pinned versions.
    pub go_mod: &'static str,
    /// The checksums of all modules in the build.
    pub go_sum: &'static str,
    /// A main package of its own, where that of the project brings more than is needed.
    pub main: Option<&'static str>,
    /// The programs to build.
    pub programs: &'static [Program],
    /// What is changed in its dependencies.
    pub patches: &'static [Patch],
}

/// A change to one line of a dependency, without which it does not do what it says.
pub(crate) struct Patch {
    /// The Go module.
    pub module: &'static str,
    /// The file below it.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub from: &'static str,
    /// What takes its place.
    pub to: &'static str,
}

/// A program to build.
pub(crate) struct Program {
    /// File name in the cache's bin folder.
    pub name: &'static str,
    /// Its main package.
    pub package: &'static str,
    /// Variables that the link sets, `package.variable=value`.
    pub variables: &'static [&'static str],
}

/// A program of Kubernetes; without its version it calls itself v0.0.0.
const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program { name, package, variables: KUBERNETES_VARIABLES }
}

const fn plain(name: &'static str, package: &'static str) -> Program {
    Program { name, package, variables: &[] }
}

const KUBERNETES_VARIABLES: &[&str] = &[
    "k8s.io/component-base/version.gitVersion=v1.36.4",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=36",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/component-base/version.buildDate=1970-01-01T00:00:00Z",
    "k8s.io/client-go/pkg/version.gitVersion=v1.36.4",
    "k8s.io/client-go/pkg/version.gitMajor=1",
    "k8s.io/client-go/pkg/version.gitMinor=36",
    "k8s.io/client-go/pkg/version.gitTreeState=clean",
    "k8s.io/client-go/pkg/version.buildDate=1970-01-01T00:00:00Z",
];

/// Helm renders for this Kubernetes when it talks to none; its own default, 1.20, fails charts that need more.
const HELM_VARIABLES: &[&str] = &[
    "helm.sh/helm/v3/internal/version.version=v3.21.4",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=36",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
];

/// Kubernetes' version; the same as in go/kubernetes/go.mod, which a test holds equal.
pub const KUBERNETES_VERSION: &str = "v1.36.4";
/// Oldest Go that builds the pins.
pub(crate) const GO_VERSION: (u32, u32) = (1, 26);
/// The sandbox image's name; the tag is that of build/pause in the pinned Kubernetes.
pub(crate) const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";
/// The image of Kubernetes' test program; the tag is that of test/images/agnhost in the pinned Kubernetes.
pub const AGNHOST_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";

/// The image of kubectl, under the name of the one that Kubernetes publishes. Its version is the pinned one, so the key
/// need not have it.
pub const KUBECTL_IMAGE: &str = "registry.k8s.io/kubectl:v1.36.4";

/// All modules, in build order: the longest first.
pub(crate) const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        go_mod: include_str!("../go/kubernetes/go.mod"),
        go_sum: include_str!("../go/kubernetes/go.sum"),
        main: None,
        programs: &[
            kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            plain("etcd", "go.etcd.io/etcd/server/v3"),
            plain("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
        ],
        patches: &[],
    },
    Module {
        name: "tools",
        go_mod: include_str!("../go/tools/go.mod"),
        go_sum: include_str!("../go/tools/go.sum"),
        main: Some(include_str!("../go/tools/main.go")),
        programs: &[
            plain("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
            plain("coredns", "mainstay.dev/cluster/tools"),
            Program { name: "helm", package: "helm.sh/helm/v3/cmd/helm", variables: HELM_VARIABLES },
        ],
        // kwok starts its controllers of nodes and of pods in an order left to chance, and that of pods takes over what
        // says whose Lease it holds: nothing, where it comes first. Then it plays the pods of dead nodes on, and
        // makes those ready again that were just put out of service.
        patches: &[Patch {
            module: "sigs.k8s.io/kwok",
            file: "pkg/kwok/controllers/controller.go",
            from: "ReadOnlyFunc:  c.readOnlyFunc,",
            to: "ReadOnlyFunc: func(node string) bool { return c.readOnlyFunc == nil || c.readOnlyFunc(node) },",
        }],
    },
];

/// Flags of `go build` that every program shares.
pub(crate) const BUILD_FLAGS: &[&str] = &["-mod=readonly", "-buildvcs=false", "-trimpath"];

/// The `-ldflags` of a program.
pub(crate) fn link_flags(program: &Program) -> String {
    let variables = program.variables.iter().map(|variable| format!(" -X {variable}"));
    std::iter::once("-s -w".to_owned()).chain(variables).collect()
}

/// Names one set of pins, flags and Go version: equal keys mean equal programs.
pub(crate) fn key(modules: &[Module], go_version: &str) -> String {
    let mut digest = Sha256::new();
    // Each part is preceded by its length, so that no two lists of parts read the same.
    let mut part = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    part(go_version);
    part(&BUILD_FLAGS.join(" "));
    part(PAUSE_IMAGE);
    part(AGNHOST_IMAGE);
    for module in modules {
        part(module.name);
        part(module.go_mod);
        part(module.go_sum);
        part(module.main.unwrap_or_default());
        for program in module.programs {
            part(program.name);
            part(program.package);
            part(&link_flags(program));
        }
        for Patch { module, file, from, to } in module.patches {
            [*module, *file, *from, *to].into_iter().for_each(&mut part);
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn module(go_sum: &'static str) -> [Module; 1] {
        [Module { name: "m", go_mod: "module m", go_sum, main: None, programs: &[], patches: &[] }]
    }

    #[test]
    fn a_key_names_exactly_one_set_of_pins() {
        let key_of = |go_sum, go| key(&module(go_sum), go);
        assert_eq!(key_of("a", "go1.26.0"), key_of("a", "go1.26.0"));
        assert_ne!(key_of("a", "go1.26.0"), key_of("b", "go1.26.0"));
        assert_ne!(key_of("a", "go1.26.0"), key_of("a", "go1.26.1"));
        let patches = &[Patch { module: "m", file: "f.go", from: "a", to: "b" }];
        let patched = [Module { patches, ..module("a")[0] }];
        assert_ne!(key_of("a", "go1.26.0"), key(&patched, "go1.26.0"));
        assert_ne!(
            key(
                &[Module { name: "m", go_mod: "ab", go_sum: "c", main: None, programs: &[], patches: &[] }],
                "go"
            ),
            key(
                &[Module { name: "m", go_mod: "a", go_sum: "bc", main: None, programs: &[], patches: &[] }],
                "go"
            ),
        );
    }

    #[test]
    fn every_program_is_a_tool_of_its_module() {
        for module in MODULES {
            for program in module.programs {
                assert!(
                    module.go_mod.contains(program.package),
                    "{} is no tool of go/{}",
                    program.package,
                    module.name
                );
            }
            assert!(!module.go_sum.is_empty(), "go/{} has no checksums", module.name);
        }
    }

    #[test]
    fn the_version_the_servers_report_is_the_pinned_one() {
        let pinned = format!("require k8s.io/kubernetes {KUBERNETES_VERSION}");
        assert!(MODULES[0].go_mod.contains(&pinned), "go/kubernetes/go.mod lacks `{pinned}`");
        let flags = link_flags(&MODULES[0].programs[0]);
        for variable in ["gitVersion", "gitMinor"] {
            let value = if variable == "gitMinor" { "36" } else { KUBERNETES_VERSION };
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                assert!(flags.contains(&format!("-X {package}.{variable}={value}")), "{flags}");
            }
        }
        let version = HELM_VARIABLES[0].split_once('=').unwrap().1;
        let pinned = format!("helm.sh/helm/v3 {version}");
        assert!(tools().go_mod.contains(&pinned), "go/tools/go.mod lacks `{pinned}`");
    }

    fn tools() -> &'static Module {
        MODULES.iter().find(|module| module.name == "tools").unwrap()
    }

    /// What a go.mod requires, by module. The staging modules of Kubernetes come by `replace` lines instead.
    fn required(go_mod: &'static str) -> BTreeMap<&'static str, &'static str> {
        let replaced = replaced(go_mod);
        let lines = go_mod.lines().filter_map(|line| line.trim().strip_suffix(" // indirect"));
        let pairs = lines.filter_map(|line| line.trim_start_matches("require ").split_once(' '));
        pairs.filter(|(module, _)| !replaced.contains_key(module)).collect()
    }

    fn replaced(go_mod: &'static str) -> BTreeMap<&'static str, &'static str> {
        let pairs = go_mod.lines().filter_map(|line| line.trim().split_once(" => "));
        pairs.map(|(from, to)| (from.trim_start_matches("replace "), to)).collect()
    }

    #[test]
    fn the_tools_are_built_with_the_versions_of_kubernetes() {
        let [kubernetes, tools] = [MODULES[0].go_mod, tools().go_mod];
        assert_eq!(replaced(kubernetes), replaced(tools));
        let (theirs, ours) = (required(kubernetes), required(tools));
        let shared: Vec<_> = theirs.iter().filter(|(module, _)| ours.contains_key(*module)).collect();
        assert!(shared.len() > 50, "only {} modules are shared", shared.len());
        let other: Vec<_> = shared.iter().filter(|(module, version)| ours[*module] != **version).collect();
        assert!(other.is_empty(), "go/tools/go.mod has other versions of {other:?}");
    }
}
