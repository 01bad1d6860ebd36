//! Random pods, clusters, policies and flows for tests, all drawn from one number.
//!
//! The same seed draws the same [`Case`], on every machine, so that a test that prints its seed can be repeated. What is
//! drawn are small worlds in which things meet: a handful of ports, names, labels and addresses, so that most policies
//! select something, most rules have a flow that they allow, and policies overlap.
//!
//! ```
//! use sidewall_policy::testing::{Case, Draw, Ground};
//!
//! let mut draw = Draw::new(7);
//! let case = Case::draw(&mut draw, &Ground::default());
//! let pod = sidewall_policy::resolve(&case.world, &case.subject);
//! for flow in case.flows(&mut draw, 10) {
//!     sidewall_policy::evaluate(&pod, &flow);
//! }
//! ```

mod cluster;
mod draw;
mod edges;
mod flows;
mod ground;
mod policies;

pub use draw::Draw;
pub use edges::add;
pub use ground::{Ground, Link};

use crate::world::{Subject, World};
use sidewall_api::{ContainerNetworkPolicy, Peer, PolicyPort};
use sidewall_flow::Direction;

/// A pod and everything that policies can speak of around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Where its addresses and ports come from.
    pub ground: Ground,
    /// The cluster.
    pub world: World,
    /// The pod.
    pub subject: Subject,
}

impl Case {
    /// Draws a case on a ground.
    pub fn draw(draw: &mut Draw, ground: &Ground) -> Self {
        let mut case =
            Self { ground: ground.clone(), world: World::default(), subject: cluster::subject(draw, ground) };
        cluster::fill(draw, &mut case);
        policies::fill(draw, &mut case);
        cluster::forms(draw, &mut case);
        // Last, so that grounds without them draw what they always drew.
        edges::attach(draw, &mut case);
        edges::fill(draw, &mut case);
        case
    }

    /// The same world, written down in another order.
    #[must_use]
    pub fn reordered(&self, draw: &mut Draw) -> World {
        let mut world = self.world.clone();
        draw.shuffle(&mut world.pods);
        draw.shuffle(&mut world.services);
        draw.shuffle(&mut world.policies);
        draw.shuffle(&mut world.network_policies);
        draw.shuffle(&mut world.multi_network_policies);
        draw.shuffle(&mut world.proxies);
        draw.shuffle(&mut world.unreadable);
        for pod in &mut world.pods {
            draw.shuffle(&mut pod.addresses);
            draw.shuffle(&mut pod.networks.known);
        }
        for service in &mut world.services {
            draw.shuffle(&mut service.addresses);
            draw.shuffle(&mut service.ports);
        }
        world
    }
}

impl Case {
    /// A policy of any shape, mostly one that selects the pod.
    pub fn policy(&self, draw: &mut Draw, name: &str) -> ContainerNetworkPolicy {
        policies::policy(draw, self, name)
    }

    /// The peers and ports of a rule.
    pub fn rule(&self, draw: &mut Draw, direction: Direction) -> (Vec<Peer>, Vec<PolicyPort>) {
        policies::rule(draw, self, direction)
    }
}
