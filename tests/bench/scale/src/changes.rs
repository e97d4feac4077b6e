//! The changes that are measured, one kind after the other, and what follows each.

use std::time::Duration;

use anyhow::ensure;

use crate::clock;
use crate::fleet::{Change, Fleet};
use crate::plane::Plane;
use crate::report::Report;
use crate::say;
use crate::source::Source;
use crate::world::{self, COLD, HOT, World};

/// What is changed, and how often.
pub struct Changes<'a> {
    /// Changes of each kind.
    pub count: usize,
    /// The cluster.
    pub world: &'a World,
    /// The control plane.
    pub plane: &'a Plane,
    /// Where changes are written.
    pub source: &'a Source,
}

impl Changes<'_> {
    /// One weight of a route that concerns every proxy.
    ///
    /// # Errors
    /// When it was not in force everywhere soon.
    pub async fn weights(&self, fleet: &mut Fleet, report: &mut Report) -> anyhow::Result<()> {
        say(&format!("{} changes of a weight", self.count));
        let mut all = Sum::new(self.plane, fleet.len()).await?;
        for number in 1..=self.count {
            let weight = u32::try_from(number)?;
            let begun = clock::now();
            self.source.put("route", &[world::weighed(weight)]).await?;
            all.add(fleet.until(|a| a.weight == Some(weight), begun).await?);
        }
        all.report("a weight of a route that concerns all", self.plane, Some(250.0), report).await
    }

    /// One endpoint of the Service that every proxy calls.
    ///
    /// # Errors
    /// When it was not in force everywhere soon.
    pub async fn endpoints(&self, fleet: &mut Fleet, report: &mut Report) -> anyhow::Result<()> {
        say(&format!("{} changes of an endpoint", self.count));
        let mut all = Sum::new(self.plane, fleet.len()).await?;
        for number in 1..=self.count {
            let address = world::pod_ip(5_000_000 + number);
            let text = address.to_string();
            let begun = clock::now();
            self.source.put("moving-hot", &world::moved(self.world, HOT, address)).await?;
            all.add(fleet.until(|a| a.endpoints.contains(&text), begun).await?);
        }
        all.report("an endpoint that concerns all", self.plane, None, report).await
    }

    /// A Service that some proxies call.
    ///
    /// # Errors
    /// When it was not in force on these soon.
    pub async fn some(&self, fleet: &mut Fleet, report: &mut Report) -> anyhow::Result<()> {
        let concerned = self.world.concerned();
        say(&format!("{} changes of a Service that concerns {} proxies", self.count, concerned.len()));
        let mut all = Sum::new(self.plane, concerned.len()).await?;
        for number in 1..=self.count {
            let seconds = 100 + number;
            let begun = clock::now();
            self.source.put("some", &[self.world.sticky(seconds)]).await?;
            all.add(fleet.until_on(&concerned, |a| a.remembers == Some(seconds as u64), begun).await?);
        }
        let what = format!("a Service that concerns {}", concerned.len());
        all.report(&what, self.plane, None, report).await
    }

    /// What concerns nobody: an endpoint, a Service that comes, its label.
    ///
    /// # Errors
    /// When a change was not compiled soon.
    pub async fn unused(&self, report: &mut Report) -> anyhow::Result<()> {
        let moved = |number: usize| world::moved(self.world, COLD, world::pod_ip(5_500_000 + number)).to_vec();
        self.nobody("an endpoint that nobody uses", "moving-cold", moved, report).await?;
        let come = |number: usize| (1..=number).map(|n| self.world.unused(n, 0)).collect();
        self.nobody("a Service that nobody uses comes", "unused", come, report).await?;
        let labelled =
            |number: usize| (1..=self.count).map(|n| self.world.unused(n, usize::from(n == 1) * number)).collect();
        self.nobody("a label of such a Service", "unused", labelled, report).await
    }

    /// Changes that no proxy hears of; the last of `objects` differ from one to the next.
    async fn nobody(
        &self,
        what: &str,
        file: &str,
        objects: impl Fn(usize) -> Vec<serde_json::Value>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        say(&format!("{} changes: {what}", self.count));
        let plane = self.plane;
        let (cpu, compiled) = (plane.cpu()?, plane.compiled().await?);
        for number in 1..=self.count {
            let before = plane.compiled().await?.0;
            let end = clock::now() + Duration::from_secs(10);
            self.source.put(file, &objects(number)).await?;
            while plane.compiled().await?.0 <= before {
                ensure!(clock::now() < end, "a change was not compiled within 10 s");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // What follows a change at every proxy belongs to it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        report.add(&format!("{what}: CPU per change, ms"), (plane.cpu()? - cpu) * 1e3 / self.count as f64);
        let now = plane.compiled().await?;
        report.add(&format!("{what}: compiling, ms"), (now.1 - compiled.1) * 1e3 / (now.0 - compiled.0).max(1.0));
        Ok(())
    }

    /// Nothing at all.
    ///
    /// # Errors
    /// When the control plane is gone.
    pub async fn none(&self, report: &mut Report) -> anyhow::Result<()> {
        let (begun, cpu) = (clock::now(), self.plane.cpu()?);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let share = (self.plane.cpu()? - cpu) * 100.0 / begun.elapsed().as_secs_f64();
        report.add("nothing happens: CPU, % of a core", share);
        Ok(())
    }
}

/// Changes of one kind, added up.
struct Sum {
    /// Proxies that each concerns.
    proxies: usize,
    cpu: f64,
    compiled: (f64, f64),
    each: Vec<Duration>,
    last: Vec<Duration>,
    bytes: usize,
    resources: usize,
}

impl Sum {
    async fn new(plane: &Plane, proxies: usize) -> anyhow::Result<Self> {
        let (cpu, compiled) = (plane.cpu()?, plane.compiled().await?);
        Ok(Self { proxies, cpu, compiled, each: Vec::new(), last: Vec::new(), bytes: 0, resources: 0 })
    }

    fn add(&mut self, change: Change) {
        self.last.extend(change.times.iter().max());
        self.each.extend(change.times);
        self.bytes += change.bytes;
        self.resources += change.resources;
    }

    async fn report(
        mut self,
        what: &str,
        plane: &Plane,
        target: Option<f64>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (changes, now) = (self.last.len() as f64, plane.compiled().await?);
        let cpu = (plane.cpu()? - self.cpu) * 1e3 / changes;
        let pushes = changes * self.proxies as f64;
        report.spread(&format!("{what}: in force on one"), &mut self.each, target);
        report.spread(&format!("{what}: in force on all"), &mut self.last, target);
        report.add(&format!("{what}: CPU per change, ms"), cpu);
        report.add(&format!("{what}: CPU per proxy, ms"), cpu / self.proxies as f64);
        let compiled = (now.1 - self.compiled.1) * 1e3 / (now.0 - self.compiled.0).max(1.0);
        report.add(&format!("{what}: compiling, ms"), compiled);
        report.add(&format!("{what}: compilations per change"), (now.0 - self.compiled.0) / changes);
        report.add(&format!("{what}: bytes per proxy"), self.bytes as f64 / pushes);
        report.add(&format!("{what}: resources per proxy"), self.resources as f64 / pushes);
        Ok(())
    }
}
