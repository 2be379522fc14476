//! Bandwidth limits: a token bucket on the host's end, where the guest cannot take it away.

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::link::add_replacing;
use super::netlink::index_of;
use crate::error::{Context, Error, Kind, Result};
use crate::types::Rate;

// linux/pkt_sched.h
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// linux/if_ether.h, in network order as tcm_info holds it.
const ETH_P_ALL: u16 = 3u16.to_be();

/// Limits what reaches the guest: it leaves the host by the host's end of the pair.
pub(super) async fn limit_into_guest(host: &Handle, link: u32, rate: Rate) -> Result<()> {
    token_bucket(host, link, rate).await.context(|| "limit the traffic into the guest")
}

/// Limits what the guest sends. The kernel shapes only what leaves a link, so arriving packets are
/// led through one of their own, `shaper` (an ifb).
pub(super) async fn limit_out_of_guest(host: &Handle, link: u32, shaper: &str, rate: Rate) -> Result<()> {
    let step = || "limit the traffic out of the guest";
    let ifb = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb).name(shaper).up().build();
    add_replacing(host, ifb, shaper).await.map_err(needs_module).context(step)?;
    let shaper = index_of(host, shaper).await.context(step)?;
    token_bucket(host, shaper, rate).await.context(step)?;
    let index = link as i32;
    host.qdisc().add(index).ingress().execute().await.map_err(|e| needs_module(e.into())).context(step)?;
    let filter =
        host.traffic_filter(index).add().parent(0xffff_0000).protocol(ETH_P_ALL).redirect(shaper).context(step)?;
    filter.execute().await.map_err(|e| needs_module(e.into())).context(step)
}

/// A token bucket as the link's root queueing discipline; rtnetlink has no builder for one.
async fn token_bucket(host: &Handle, link: u32, rate: Rate) -> Result<()> {
    let mut message = TcMessage::with_index(link as i32);
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(options(rate))];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut answers = host.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(e) = answer.payload {
            return Err(needs_module(e.to_io().into()));
        }
    }
    Ok(())
}

fn options(rate: Rate) -> Vec<TcOption> {
    let bytes = rate.bytes_per_second();
    // Ten milliseconds of traffic at once, one large segment at least; fifty wait for their turn.
    let burst = u32::try_from(bytes / 100).unwrap_or(u32::MAX).clamp(65_536, 1 << 30);
    let queue = u32::try_from(bytes / 20).unwrap_or(u32::MAX).clamp(65_536, 1 << 30).saturating_add(burst);
    let option = |kind, value: &[u8]| TcOption::Other(DefaultNla::new(kind, value.to_vec()));
    vec![
        option(TCA_TBF_PARMS, &parameters(u32::try_from(bytes).unwrap_or(u32::MAX), queue)),
        option(TCA_TBF_RATE64, &bytes.to_ne_bytes()),
        option(TCA_TBF_BURST, &burst.to_ne_bytes()),
    ]
}

/// `struct tc_tbf_qopt`: rate, peak rate (none), limit in bytes, buffer (said by TCA_TBF_BURST), mtu.
fn parameters(rate: u32, limit: u32) -> Vec<u8> {
    let mut rate_spec = [0u8; 12];
    rate_spec[1] = TC_LINKLAYER_ETHERNET;
    rate_spec[8..].copy_from_slice(&rate.to_ne_bytes());
    [&rate_spec[..], &[0; 12], &limit.to_ne_bytes(), &[0; 8]].concat()
}

fn needs_module(e: Error) -> Error {
    match e.errno() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => e
            .with_kind(Kind::HostLacks)
            .hint("the kernel's modules sch_tbf, sch_ingress, cls_u32, act_mirred and ifb do this"),
        _ => e,
    }
}
