//! A policy's spec, converted to the types of the plan.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{ResourceExt, core::Selector};
use mainstay_crds::{
    Actions, KubeletProbe, KubeletProbeType, NodeHealthPolicy, NodeHealthPolicySpec, OnDeadline,
    RemediationTemplate, TaintEffect as SpecEffect, TemplateKind, UnhealthyCondition,
};
use thiserror::Error;

use crate::{
    plan::{Drain, Flapping, Limit, Limits, Rate, Rules, Steps},
    record::TaintEffect,
};

/// What a policy asks for.
#[derive(Debug)]
pub struct Settings {
    /// The policy's name.
    pub name: Arc<str>,
    /// Its nodes.
    pub selector: Selector,
    /// The conditions that make a node unhealthy.
    pub conditions: Vec<Watched>,
    /// How kubelets are asked whether they live.
    pub kubelet: Option<KubeletCheck>,
    /// Whether pods are.
    pub pods: bool,
    /// The templates of remediations, in their order.
    pub templates: Vec<TemplateRef>,
    /// Those of them whose success proves that a node is dead.
    pub proofs: Vec<TemplateRef>,
    /// What plans go by.
    pub rules: Rules,
}

/// A condition that makes a node unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its type.
    pub kind: Arc<str>,
    /// The status that is bad.
    pub status: Arc<str>,
    /// For how long it must have held.
    pub lasts: Duration,
}

/// How a kubelet is asked whether it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubeletCheck {
    /// By HTTPS, and not by a connection alone.
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A template of remediations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRef {
    /// Its API group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl TemplateRef {
    fn of(template: &RemediationTemplate) -> Self {
        Self {
            api_version: template.api_version.clone(),
            kind: template.kind.clone(),
            namespace: template.namespace.clone(),
            name: template.name.clone(),
        }
    }

    /// Of any name.
    pub fn of_kind(kind: &TemplateKind) -> Self {
        let TemplateKind { api_version, kind, namespace } = kind.clone();
        Self { api_version, kind, namespace, name: String::new() }
    }

    /// What of it is written down in a status.
    pub fn template_kind(&self) -> TemplateKind {
        let Self { api_version, kind, namespace, name: _ } = self.clone();
        TemplateKind { api_version, kind, namespace }
    }

    /// The kind of what is made from it.
    pub fn remediation_kind(&self) -> &str {
        self.kind.strip_suffix("Template").unwrap_or(&self.kind)
    }

    /// Whether the other one is of the same kind and in the same namespace, so that what is made from both is, too.
    pub fn is_beside(&self, other: &Self) -> bool {
        (&self.api_version, &self.kind, &self.namespace)
            == (&other.api_version, &other.kind, &other.namespace)
    }

    /// Another one of this kind in this namespace.
    pub fn with_name(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }
}

/// Why a spec cannot be carried out. The schema refuses all of this at admission; an object that was stored under an
/// older schema may still say it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The selector cannot be read.
    #[error("spec.nodeSelector cannot be read ({0}); correct it")]
    Selector(String),
    /// A limit is neither a number nor a percentage.
    #[error("{field} is {value:?}; write a number of nodes, or a percentage such as 40%")]
    Limit {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A number is out of its range.
    #[error("{field} is {value}, which is out of range; see kubectl explain")]
    Range {
        /// The field.
        field: &'static str,
        /// What it says.
        value: i32,
    },
}

impl Settings {
    /// Reads the spec.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn read(policy: &NodeHealthPolicy) -> Result<Self, SettingsError> {
        let (name, spec) = (Arc::<str>::from(policy.name_any()), &policy.spec);
        let selector = Selector::try_from(spec.node_selector.clone());
        let opinion = &spec.second_opinion;
        let templates = spec.remediation.iter().flat_map(|remediation| &remediation.templates);
        Ok(Self {
            selector: selector.map_err(|error| SettingsError::Selector(error.to_string()))?,
            conditions: spec.conditions.iter().map(watched).collect(),
            kubelet: opinion.kubelet.enabled.then(|| kubelet(&opinion.kubelet)).transpose()?,
            pods: opinion.pods,
            proofs: templates.clone().filter(|template| template.proves_death).map(TemplateRef::of).collect(),
            templates: templates.map(TemplateRef::of).collect(),
            rules: rules(Arc::clone(&name), spec)?,
            name,
        })
    }
}

/// Puts policies in the order in which they come for a node: those that act before dry runs, so that a dry run changes
/// nothing; then the strictest; then by name.
pub fn order(settings: &mut [Arc<Settings>]) {
    settings.sort_by(|one, other| {
        let key = |settings: &Settings| (settings.rules.dry_run, settings.rules.unreachable_after);
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
}

fn rules(policy: Arc<str>, spec: &NodeHealthPolicySpec) -> Result<Rules, SettingsError> {
    let (breakers, flapping) = (&spec.breakers, &spec.flapping);
    let window = breakers.max_actions_per.window.into();
    Ok(Rules {
        policy,
        dry_run: spec.dry_run,
        pause_requests: spec.pause_requests.clone(),
        unreachable_after: spec.unreachable_after.into(),
        startup_grace: spec.startup_grace.into(),
        healthy_for: spec.healthy_for.into(),
        max_doubt: spec.second_opinion.max_delay.into(),
        steps: steps(spec),
        breakers: Limits {
            zone: limit("spec.breakers.zone.maxUnhealthy", &breakers.zone.max_unhealthy)?,
            cluster: limit("spec.breakers.cluster.maxUnhealthy", &breakers.cluster.max_unhealthy)?,
            rate: Rate {
                count: number("spec.breakers.maxActionsPer.count", breakers.max_actions_per.count)?,
                window,
            },
            settle: breakers.settle.into(),
            close_after: breakers.close_after.into(),
        },
        flapping: match number("spec.flapping.count", flapping.count)? {
            0 => None,
            count => Some(Flapping {
                count,
                window: flapping.window.into(),
                quarantine: flapping.quarantine.into(),
                max_quarantine: flapping.max_quarantine.into(),
            }),
        },
    })
}

fn steps(spec: &NodeHealthPolicySpec) -> Steps {
    let Actions { cordon, taint, pods_not_ready, drain, out_of_service } = &spec.actions;
    let effect = match taint.effect {
        SpecEffect::NoSchedule => TaintEffect::NoSchedule,
        SpecEffect::NoExecute => TaintEffect::NoExecute,
    };
    let remediation = spec.remediation.as_ref();
    let templates = remediation.into_iter().flat_map(|remediation| &remediation.templates);
    Steps {
        cordon: cordon.enabled.then(|| cordon.after.into()),
        taint: taint.enabled.then(|| (effect, taint.after.into())),
        pods_not_ready: pods_not_ready.enabled.then(|| pods_not_ready.after.into()),
        drain: drain.enabled.then(|| Drain {
            after: drain.after.into(),
            deadline: drain.deadline.into(),
            delete_after: drain.on_deadline == OnDeadline::Delete,
        }),
        out_of_service: out_of_service.enabled.then(|| out_of_service.after.into()),
        remediation: templates.map(|template| template.timeout.into()).collect(),
        remediate_after: remediation.map_or(Duration::ZERO, |remediation| remediation.after.into()),
    }
}

fn watched(condition: &UnhealthyCondition) -> Watched {
    Watched {
        kind: condition.kind.as_str().into(),
        status: condition.status.name().into(),
        lasts: condition.lasts.into(),
    }
}

fn kubelet(probe: &KubeletProbe) -> Result<KubeletCheck, SettingsError> {
    let range = SettingsError::Range { field: "spec.secondOpinion.kubelet.port", value: probe.port };
    Ok(KubeletCheck {
        tls: probe.kind == KubeletProbeType::Https,
        port: u16::try_from(probe.port).map_err(|_| range)?,
        timeout: probe.timeout.into(),
    })
}

fn number(field: &'static str, value: i32) -> Result<usize, SettingsError> {
    usize::try_from(value).map_err(|_| SettingsError::Range { field, value })
}

fn limit(field: &'static str, value: &IntOrString) -> Result<Limit, SettingsError> {
    match value {
        IntOrString::Int(count) => number(field, *count).map(Limit::Nodes),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
            percent
                .filter(|percent| *percent <= 100)
                .map(Limit::Percent)
                .ok_or_else(|| SettingsError::Limit { field, value: text.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(name: &str, mut spec: Value) -> NodeHealthPolicy {
        spec["nodeSelector"] = json!({});
        let policy = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy",
            "metadata": {"name": name}, "spec": spec,
        });
        serde_json::from_value(policy).unwrap()
    }

    fn read(spec: Value) -> Result<Settings, SettingsError> {
        Settings::read(&policy("p", spec))
    }

    #[test]
    fn a_policy_that_says_nothing_acts_in_seconds_and_carefully() {
        let settings = read(json!({})).unwrap();
        let rules = &settings.rules;
        assert_eq!(rules.unreachable_after, Duration::from_secs(15));
        assert_eq!(rules.breakers.zone, Limit::Percent(40));
        assert_eq!(rules.breakers.rate, Rate { count: 30, window: Duration::from_secs(60) });
        assert_eq!(rules.steps.cordon, Some(Duration::ZERO));
        assert_eq!(rules.steps.drain.as_ref().map(|drain| drain.delete_after), Some(false));
        assert_eq!(rules.steps.out_of_service, None, "only on wish");
        let kubelet = KubeletCheck { tls: true, port: 10250, timeout: Duration::from_secs(1) };
        assert_eq!(settings.kubelet, Some(kubelet), "an API server that dies silences kubelets that live");
        assert_eq!(rules.max_doubt, Duration::from_secs(30));
        let template = json!({"apiVersion": "x/v1", "kind": "XTemplate", "name": "x", "namespace": "x"});
        let repairs = read(json!({"remediation": {"templates": [template]}})).unwrap();
        assert_eq!(repairs.rules.steps.remediate_after, Duration::from_secs(300));
        let ready = Watched { kind: "Ready".into(), status: "False".into(), lasts: Duration::from_secs(300) };
        assert_eq!(settings.conditions, [ready]);
    }

    #[test]
    fn what_is_turned_off_is_no_step() {
        let off = json!({"enabled": false});
        let settings = read(json!({
            "actions": {"cordon": off, "taint": off, "podsNotReady": off, "drain": off},
            "flapping": {"count": 0},
        }))
        .unwrap();
        assert_eq!(settings.rules.steps, Steps::default());
        assert_eq!(settings.rules.flapping, None);
    }

    #[test]
    fn limits_are_numbers_or_percentages() {
        let zone = |value: Value| read(json!({"breakers": {"zone": {"maxUnhealthy": value}}}));
        assert_eq!(zone(json!(3)).unwrap().rules.breakers.zone, Limit::Nodes(3));
        assert_eq!(zone(json!("100%")).unwrap().rules.breakers.zone, Limit::Percent(100));
        for wrong in [json!("101%"), json!("40"), json!("many"), json!(-1)] {
            let error = zone(wrong.clone()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("spec.breakers.zone.maxUnhealthy"), "{wrong}: {error}");
        }
    }

    #[test]
    fn who_is_asked_for_a_second_opinion_is_asked_as_the_policy_says() {
        let kubelet = |probe: Value| read(json!({"secondOpinion": {"kubelet": probe, "maxDelay": "5s"}}));
        let settings = kubelet(json!({"type": "TCP"})).unwrap();
        assert_eq!(
            settings.kubelet,
            Some(KubeletCheck { tls: false, port: 10250, timeout: Duration::from_secs(1) })
        );
        assert!(!settings.pods);
        assert_eq!(settings.rules.max_doubt, Duration::from_secs(5));
        assert!(kubelet(json!({})).unwrap().kubelet.unwrap().tls);
        let pods = json!({"secondOpinion": {"pods": true, "kubelet": {"enabled": false}}});
        let pods = read(pods).unwrap();
        assert_eq!((pods.pods, pods.kubelet), (true, None));
        let error = kubelet(json!({"port": 65536})).unwrap_err().to_string();
        assert!(error.contains("spec.secondOpinion.kubelet.port is 65536"), "{error}");
    }

    #[test]
    fn templates_and_their_times_keep_their_order() {
        let template = |name: &str, timeout: &str| {
            json!({
                "apiVersion": "example.com/v1", "kind": "RebootTemplate", "name": name, "namespace": "ns",
                "timeout": timeout,
            })
        };
        let mut templates = [template("soft", "1m"), template("hard", "2m")];
        templates[1]["provesDeath"] = json!(true);
        let settings = read(json!({"remediation": {"after": "30s", "templates": templates}})).unwrap();
        assert_eq!(
            settings.templates.iter().map(|template| &*template.name).collect::<Vec<_>>(),
            ["soft", "hard"]
        );
        assert_eq!(settings.proofs, [settings.templates[1].clone()], "only where the policy says so");
        let steps = &settings.rules.steps;
        assert_eq!(steps.remediation, [Duration::from_secs(60), Duration::from_secs(120)]);
        assert_eq!(steps.remediate_after, Duration::from_secs(30));
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_refused_by_name() {
        let mut wrong = policy("p", json!({}));
        let requirement = json!([{"key": "zone", "operator": "Near", "values": ["a"]}]);
        wrong.spec.node_selector.match_expressions = serde_json::from_value(requirement).unwrap();
        let error = Settings::read(&wrong).unwrap_err().to_string();
        assert!(error.contains("spec.nodeSelector"), "{error}");
    }

    #[test]
    fn those_that_act_come_first_then_the_strictest_then_by_name() {
        let settings = |name: &str, after: &str, dry_run: bool| {
            Settings::read(&policy(name, json!({"unreachableAfter": after, "dryRun": dry_run})))
                .map(Arc::new)
                .unwrap()
        };
        let mut all = [
            settings("dry", "5s", true),
            settings("slow", "1m", false),
            settings("b", "20s", false),
            settings("a", "20s", false),
        ];
        order(&mut all);
        assert_eq!(all.iter().map(|settings| &*settings.name).collect::<Vec<_>>(), ["a", "b", "slow", "dry"]);
    }
}
