//! Who bills for a request, by the host that it is sent to.
//!
//! A price belongs to the provider that bills. The same model costs $3 at Moonshot and $2.10 elsewhere, and Moonshot's
//! platform in mainland China bills in CNY.

use crate::catalog::money::Currency;

/// Who bills at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biller {
    /// This machine: a service of the user's own, or a proxy.
    Loopback,
    /// A provider by its name at models.dev, and the currency that it bills in.
    Provider(&'static str, Currency),
    /// A host that omk does not know.
    Unknown,
}

/// Hosts with the providers that bill there. Sources: the providers' own API references, and `api` of models.dev
/// (2026-07); that Moonshot's two platforms bill in different currencies is on platform.kimi.com (2026-08).
const HOSTS: &[(&str, &str)] = &[
    ("api.moonshot.ai", "moonshotai"),
    ("api.moonshot.cn", "moonshotai-cn"),
    ("api.kimi.com", "kimi-code-plan"),
    ("api.kimi.ai", "kimi-code-plan"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "google"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "xai"),
    ("api.mistral.ai", "mistral"),
    ("api.minimax.io", "minimax"),
    ("api.z.ai", "zai"),
    ("dashscope-intl.aliyuncs.com", "alibaba"),
    ("openrouter.ai", "openrouter"),
    ("api.groq.com", "groq"),
    ("api.together.xyz", "togetherai"),
    ("api.together.ai", "togetherai"),
    ("api.fireworks.ai", "fireworks-ai"),
    ("api.deepinfra.com", "deepinfra"),
    ("inference.baseten.co", "baseten"),
    ("api.novita.ai", "novita-ai"),
    ("api.siliconflow.com", "siliconflow"),
    ("integrate.api.nvidia.com", "nvidia"),
    ("router.huggingface.co", "huggingface"),
    ("ai-gateway.vercel.sh", "vercel"),
    ("api.venice.ai", "venice"),
    ("llm.chutes.ai", "chutes"),
    ("router.requesty.ai", "requesty"),
    ("aihubmix.com", "aihubmix"),
];

/// The provider of Moonshot's platform in mainland China.
const MAINLAND: &str = "moonshotai-cn";

impl Biller {
    /// Who bills at a host, which may have a port.
    pub fn of(host: &str) -> Biller {
        let bare = bare(host);
        if is_loopback(bare) {
            return Biller::Loopback;
        }
        let known = HOSTS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(bare));
        match known {
            Some((_, MAINLAND)) => Biller::Provider(MAINLAND, Currency::Cny),
            Some((_, provider)) => Biller::Provider(provider, Currency::Usd),
            None => Biller::Unknown,
        }
    }

    /// The currency that it bills in, as far as omk knows.
    pub fn currency(self) -> Currency {
        match self {
            Biller::Provider(_, currency) => currency,
            Biller::Loopback | Biller::Unknown => Currency::Usd,
        }
    }
}

/// The host of a provider that resells others' models.
pub(crate) fn of_provider(provider: &str) -> Option<&'static str> {
    let known = HOSTS.iter().find(|(_, known)| *known == provider);
    known.map(|(host, _)| *host)
}

/// Whether two hosts are the same one, whatever their ports.
pub(crate) fn is_same(host: &str, other: &str) -> bool {
    bare(host).eq_ignore_ascii_case(bare(other))
}

/// A host without its port.
fn bare(host: &str) -> &str {
    if let Some((inside, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match host.rsplit_once(':') {
        // More than one colon is an address of IPv6.
        Some((bare, _)) if !bare.contains(':') => bare,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_its_biller() {
        let usd = |name| Biller::Provider(name, Currency::Usd);
        for (host, biller) in [
            ("api.moonshot.ai", usd("moonshotai")),
            ("API.moonshot.ai:443", usd("moonshotai")),
            (
                "api.moonshot.cn",
                Biller::Provider("moonshotai-cn", Currency::Cny),
            ),
            ("openrouter.ai", usd("openrouter")),
            ("api.kimi.com", usd("kimi-code-plan")),
            ("127.0.0.1:8080", Biller::Loopback),
            ("127.9.9.9", Biller::Loopback),
            ("[::1]:80", Biller::Loopback),
            ("::1", Biller::Loopback),
            ("localhost:1", Biller::Loopback),
            ("api.moonshot.ai.example.com", Biller::Unknown),
            ("moonshot.ai", Biller::Unknown),
            ("10.0.0.1", Biller::Unknown),
            ("", Biller::Unknown),
        ] {
            assert_eq!(Biller::of(host), biller, "{host}");
        }
        assert!(is_same("llm.example:8443", "LLM.example"));
        assert_eq!(of_provider("openrouter"), Some("openrouter.ai"));
    }
}
