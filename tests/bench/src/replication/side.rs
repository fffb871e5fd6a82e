//! Who makes the pods, and what else runs meanwhile.

use super::Bench;
use crate::{
    bed::{LIFTED, MANAGER},
    controller::Controller,
    error::Result,
    meter::Meter,
};
use clap::ValueEnum;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ApiResource;
use mainstay_crds::ReplicaGroup;
use serde::Serialize;

const ALONE_FLAG: &str = "--controllers=replicaset-controller";
const REST_FLAG: &str = "--controllers=*,-replicaset-controller";

/// Who makes the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    /// mainstay-replication; kube-controller-manager runs as shipped and has no ReplicaSet.
    Mainstay,
    /// The ReplicaSet controller in an instance of kube-controller-manager of its own, the rest in another,
    /// the client limits of both lifted.
    AloneLifted,
    /// A bare client; kube-controller-manager runs as shipped.
    Bare,
    /// As [`Self::AloneLifted`], at default client limits.
    Alone,
    /// The ReplicaSet controller as shipped: one kube-controller-manager with all controllers and default
    /// client limits.
    Shipped,
}

/// What runs during a turn. The process of Mainstay ends with this; Kubernetes' components are the bed's.
pub(super) struct Running {
    /// The controller that makes the pods; none for the bare client.
    pub meter: Option<Meter>,
    /// The process, when it is Mainstay's.
    pub controller: Option<Controller>,
}

impl Side {
    /// All sides, in the order of the tables.
    pub(super) const ALL: [Self; 5] =
        [Self::Mainstay, Self::AloneLifted, Self::Bare, Self::Alone, Self::Shipped];

    /// Those of `among` that take part in a round, in their order, which moves on by one from round to round.
    pub(super) fn order(among: &[Self], round: u32, limited_rounds: u32) -> Vec<Self> {
        let takes_part = |side: &Self| round < limited_rounds || !side.is_limited();
        let mut sides: Vec<Self> = among.iter().copied().filter(takes_part).collect();
        let by = round as usize % sides.len().max(1);
        sides.rotate_left(by);
        sides
    }

    /// For names of objects.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mainstay => "mainstay",
            Self::AloneLifted => "alone-lifted",
            Self::Bare => "bare",
            Self::Alone => "alone",
            Self::Shipped => "shipped",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Mainstay => "Mainstay",
            Self::AloneLifted => "upstream, alone, limits lifted",
            Self::Bare => "bare client",
            Self::Alone => "upstream, alone, default limits",
            Self::Shipped => "upstream, as shipped",
        }
    }

    /// Whether a client limit of 20 requests a second holds it back.
    pub(super) fn is_limited(self) -> bool {
        matches!(self, Self::Alone | Self::Shipped)
    }

    /// The kind that owns the pods. The bare client's belong to a ReplicaGroup of 0 replicas, so that they
    /// are the same pods; nobody keeps it meanwhile.
    pub(super) fn kind(self) -> ApiResource {
        match self {
            Self::Mainstay | Self::Bare => ApiResource::erase::<ReplicaGroup>(&()),
            Self::AloneLifted | Self::Alone | Self::Shipped => ApiResource::erase::<ReplicaSet>(&()),
        }
    }
}

impl Bench<'_> {
    /// Starts what the side runs, all of it anew.
    pub(super) async fn start(&self, side: Side) -> Result<Running> {
        let lifted: &[&str] = if side == Side::AloneLifted { &LIFTED } else { &[] };
        let is_alone = matches!(side, Side::AloneLifted | Side::Alone);
        let rest: &[&str] = if is_alone { &[REST_FLAG] } else { &[] };
        self.bed.stop_alone().await?;
        let manager = self.bed.restart(MANAGER, &[rest, lifted].concat()).await?;
        let (mut meter, mut controller) = (None, None);
        match side {
            Side::Mainstay => {
                let started = Controller::start(self.bed, &self.program, &self.account, &self.log()).await?;
                meter = Some(started.meter.clone());
                controller = Some(started);
            }
            Side::AloneLifted | Side::Alone => {
                let flags = [&[ALONE_FLAG], lifted].concat();
                meter = Some(self.bed.meter(&self.bed.start_alone(&flags).await?)?);
            }
            Side::Shipped => meter = Some(self.bed.meter(&manager)?),
            Side::Bare => {}
        }
        Ok(Running { meter, controller })
    }
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
}
