//! The sides of a bench: who keeps the pods, and what else runs meanwhile.

use crate::{
    bed::Bed,
    controller::Controller,
    credentials::Account,
    error::Result,
    meter::Meter,
    names::{LIFTED, MANAGER},
};
use clap::ValueEnum;
use serde::Serialize;
use std::path::PathBuf;

/// Who keeps the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// Mainstay's controller; kube-controller-manager runs as shipped and has nothing to do with these pods.
    Mainstay,
    /// Upstream's controllers in an instance of kube-controller-manager of their own, the rest in another,
    /// the client limits of both lifted.
    AloneLifted,
    /// A bare client; kube-controller-manager runs as shipped.
    Bare,
    /// As [`Self::AloneLifted`], at default client limits.
    Alone,
    /// Upstream's controllers as shipped: one kube-controller-manager with all controllers and default client
    /// limits.
    Shipped,
}

impl Side {
    /// All sides, in the order of the tables.
    pub(crate) const ALL: [Self; 5] =
        [Self::Mainstay, Self::AloneLifted, Self::Bare, Self::Alone, Self::Shipped];
    /// The sides of upstream.
    pub(crate) const UPSTREAM: [Self; 3] = [Self::AloneLifted, Self::Alone, Self::Shipped];

    /// Those of `among` that take part in a round, in their order, which moves on by one from round to round.
    pub(crate) fn order(among: &[Self], round: u32, limited_rounds: u32) -> Vec<Self> {
        let takes_part = |side: &Self| round < limited_rounds || !side.is_limited();
        let mut sides: Vec<Self> = among.iter().copied().filter(takes_part).collect();
        let by = round as usize % sides.len().max(1);
        sides.rotate_left(by);
        sides
    }

    /// For names of objects.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mainstay => "mainstay",
            Self::AloneLifted => "alone-lifted",
            Self::Bare => "bare",
            Self::Alone => "alone",
            Self::Shipped => "shipped",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Mainstay => "Mainstay",
            Self::AloneLifted => "upstream, alone, limits lifted",
            Self::Bare => "bare client",
            Self::Alone => "upstream, alone, default limits",
            Self::Shipped => "upstream, as shipped",
        }
    }

    /// Whether a client limit of 20 requests a second holds it back.
    pub(crate) fn is_limited(self) -> bool {
        matches!(self, Self::Alone | Self::Shipped)
    }
}

/// What runs during a turn. The process of Mainstay ends with this; Kubernetes' components are the bed's.
pub(crate) struct Running {
    /// The controller that keeps the pods; none for the bare client.
    pub meter: Option<Meter>,
    /// The process, when it is Mainstay's.
    pub controller: Option<Controller>,
}

/// What every turn of a bench needs.
pub(crate) struct Stage<'a> {
    /// The cluster.
    pub bed: &'a Bed,
    /// Whom Mainstay's controller runs as.
    pub account: Account,
    /// Mainstay's controller.
    pub program: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
    /// The controllers of kube-controller-manager that Mainstay's is measured beside.
    pub upstream: &'static [&'static str],
    /// Further flags of kube-controller-manager.
    pub flags: &'static [&'static str],
}

impl Stage<'_> {
    /// Starts what the side runs, all of it anew.
    pub(crate) async fn start(&self, side: Side) -> Result<Running> {
        let lifted: &[&str] = if side == Side::AloneLifted { &LIFTED } else { &[] };
        let is_alone = matches!(side, Side::AloneLifted | Side::Alone);
        let (these, others) = controllers(self.upstream);
        let rest: &[&str] = if is_alone { &[&others] } else { &[] };
        self.bed.stop_alone().await?;
        let manager = self.bed.restart(MANAGER, &[rest, lifted, self.flags].concat()).await?;
        let (mut meter, mut controller) = (None, None);
        match side {
            Side::Mainstay => {
                let started = Controller::start(self.bed, &self.program, &self.account, &self.log).await?;
                meter = Some(started.meter.clone());
                controller = Some(started);
            }
            Side::AloneLifted | Side::Alone => {
                let flags = [&[these.as_str()], lifted, self.flags].concat();
                meter = Some(self.bed.meter(&self.bed.start_alone(&flags).await?)?);
            }
            Side::Shipped => meter = Some(self.bed.meter(&manager)?),
            Side::Bare => {}
        }
        Ok(Running { meter, controller })
    }
}

/// The flags of a kube-controller-manager with these controllers alone, and of one with all others.
fn controllers(these: &[&str]) -> (String, String) {
    (format!("--controllers={}", these.join(",")), format!("--controllers=*,-{}", these.join(",-")))
}

#[cfg(test)]
mod tests {
    use super::Side::*;
    use super::*;

    #[test]
    fn each_side_leads_in_turn_and_limited_ones_rest() {
        let order = |round, limited_rounds| Side::order(&Side::ALL, round, limited_rounds);
        assert_eq!(order(0, 1), Side::ALL);
        assert_eq!(order(1, 1), [AloneLifted, Bare, Mainstay]);
        assert_eq!(order(2, 0), [Bare, Mainstay, AloneLifted]);
        assert_eq!(order(3, 9), [Alone, Shipped, Mainstay, AloneLifted, Bare]);
        assert_eq!(Side::order(&[Shipped], 1, 1), []);
    }

    #[test]
    fn each_controller_runs_in_one_of_the_two_instances() {
        let (these, others) = controllers(&["a", "b"]);
        assert_eq!(these, "--controllers=a,b");
        assert_eq!(others, "--controllers=*,-a,-b");
    }
}
