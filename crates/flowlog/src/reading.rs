//! One pod's log, from the kernel's messages to a hub's records.

use crate::follow::Counts;
use crate::hub::Hub;
use crate::message::logged;
use sidewall_flow::{LossPlace, LostRecord, Record, Timestamp, Version};
use sidewall_netfilter::NetlinkError;
use sidewall_netfilter::nflog::{LogEvent, LogReader};
use sidewall_netns::{Links, NetNs};
use sidewall_policy::record::Recorder;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How often devices are listed again, at most, because a message names one that is not known.
const DEVICES_AGAIN: Duration = Duration::from_secs(1);

/// The reading end of a pod's log.
#[derive(Debug)]
pub struct Reading {
    reader: LogReader,
    namespace: NetNs,
    devices: BTreeMap<u32, String>,
    listed: Instant,
}

impl Reading {
    /// Reads a pod's log; the namespace is the pod's, whose devices messages name by number.
    ///
    /// # Errors
    /// The devices can't be listed.
    pub fn new(reader: LogReader, namespace: &NetNs) -> Result<Self, sidewall_netns::Error> {
        let devices = list(namespace)?;
        Ok(Self { reader, namespace: namespace.clone(), devices, listed: Instant::now() })
    }

    /// Publishes one event, if there is one, and counts it. Says `false` where there is nothing more for now.
    ///
    /// # Errors
    /// The socket can't be read any more.
    pub fn step(&mut self, recorder: &Recorder, hub: &Hub, counts: &mut Counts) -> Result<bool, NetlinkError> {
        let overruns = self.reader.overruns();
        let Some(event) = self.reader.next(Duration::ZERO)? else { return Ok(self.reader.overruns() > overruns) };
        match event {
            LogEvent::Record(message) => {
                let logged = logged(&message, |index| self.device(index));
                counts.records += 1;
                hub.publish(Record::Flow(Box::new(recorder.record(&logged))));
            }
            LogEvent::Lost(count) => {
                counts.lost += u64::from(count);
                hub.publish(lost(recorder.pod(), u64::from(count), LossPlace::Kernel));
            }
            LogEvent::Foreign => counts.foreign += 1,
        }
        Ok(true)
    }

    /// The name of a device; devices come and go.
    fn device(&mut self, index: u32) -> Option<String> {
        if !self.devices.contains_key(&index) && self.listed.elapsed() >= DEVICES_AGAIN {
            self.listed = Instant::now();
            match list(&self.namespace) {
                Ok(devices) => self.devices = devices,
                Err(error) => tracing::debug!(%error, "devices are not known"),
            }
        }
        self.devices.get(&index).cloned()
    }
}

impl AsFd for Reading {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// That so many records of a pod are missing.
pub fn lost((namespace, pod): (&str, &str), count: u64, place: LossPlace) -> Record {
    let (namespace, pod) = (Some(namespace.to_owned()), Some(pod.to_owned()));
    Record::Lost(LostRecord { version: Version, time: Timestamp::now(), namespace, pod, count, place })
}

fn list(namespace: &NetNs) -> Result<BTreeMap<u32, String>, sidewall_netns::Error> {
    Ok(Links::of(namespace)?.links()?.into_iter().map(|link| (link.index, link.name)).collect())
}
