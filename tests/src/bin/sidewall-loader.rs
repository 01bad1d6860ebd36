//! Loads the scene's walls into the namespace that it was started in, says so, and waits to be killed.
#![forbid(unsafe_code)]

use sidewall_netfilter::{Kernel, LoadOptions};
use sidewall_policy::model::{Identities, UserIdentities};
use sidewall_policy::{Generation, World, compile, resolve};
use sidewall_tests::scene::{id, subject, walls};
use std::io::{Read, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The users that the lab gives its containers.
    let containers = (1..=4).map(|number| (id(number), 20_000 + u32::from(number))).collect();
    let identities = Identities::Uid(UserIdentities { containers, node: [0].into() });
    let world = World { policies: walls(), ..World::default() };
    let compiled = compile(&resolve(&world, &subject(identities)), Generation::FIRST);
    let mut kernel = Kernel::here()?;
    let loaded = kernel.load(&compiled.ruleset, LoadOptions { owner: true })?;
    println!("loaded {} {}", loaded.generation, loaded.owner);
    std::io::stdout().flush()?;
    // Until it is killed, or its starter is gone.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
