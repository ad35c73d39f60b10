/* The table of keys: one row for each, in the order in which they are printed. */
#include "supervisor/config-priv.h"

#define D(m) offsetof(struct drover_config, m)
#define R(m) offsetof(struct registry_config, m)
#define N(m) offsetof(struct network_config, m)
#define K(m) offsetof(struct key_config, m)
#define I(m) offsetof(struct image_config_section, m)
#define V(m) offsetof(struct vm_config, m)

#ifdef __aarch64__
#define HOST_ARCH    "aarch64"
#define HOST_MACHINE "virt"
#else
#define HOST_ARCH    "x86_64"
#define HOST_MACHINE "q35"
#endif

#define KIB  ((uint64_t)1 << 10)
#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)
#define TIB  ((uint64_t)1 << 40)
#define SEC  ((uint64_t)1000)
#define HOUR (3600 * SEC)
#define DAY  (24 * HOUR)

/* Each list in the order of its enum. */
static const char *const on_exit_words[] = { "keep", "stop", NULL };
static const char *const log_level_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const log_format_words[] = { "text", "json", NULL };
static const char *const network_kind_words[] = { "p2p", "nat", "isolated", "routed", "bridge",
	"user", "macvtap", NULL };
/* enum macvtap_mode */
static const char *const macvtap_words[] = { "bridge", "vepa", "private", NULL };
/* enum choice */
static const char *const choice_words[] = { "auto", "yes", "no", NULL };
static const char *const rp_filter_words[] = { "ours", "all", NULL };
static const char *const machine_words[] = { "q35", "pc", "microvm", "virt", NULL };
static const char *const arch_words[] = { "x86_64", "aarch64", NULL };
static const char *const display_words[] = { "none", "vnc", NULL };
static const char *const vhost_words[] = { "auto", "yes", "no", NULL };
static const char *const accel_words[] = { "auto", "kvm", "tcg", NULL };
static const char *const disk_words[] = { "keep", "run", NULL };
static const char *const clone_words[] = { "auto", "reflink", "overlay", "copy", NULL };
static const char *const restart_words[] = { "no", "on-failure", "always", NULL };
static const char *const on_panic_words[] = { "ignore", "stop", NULL };
static const char *const on_change_words[] = { "restart", "defer", NULL };
static const char *const health_action_words[] = { "none", "reset", "restart", NULL };
static const char *const watchdog_words[] = { "none", "i6300esb", "ib700", NULL };
static const char *const watchdog_action_words[] = { "reset", "poweroff", "pause", "none", NULL };
/* enum memory_limit */
static const char *const memory_limit_words[] = { "no", "yes", "auto", NULL };
/* enum image_format */
static const char *const format_words[] = { "auto", "raw", "qcow2", "vmdk", "vhdx", "efi", NULL };
static const char *const pull_words[] = { "missing", "always", "never", NULL };

const struct config_key config_keys[] = {
	{ SECTION_DROVER, "include", KEY_LIST, D(include), .meta = true,
		.help = "Files to read as well, as glob patterns relative to the folder of the file "
			"that names them; they are read after that file, sorted by name." },
	{ SECTION_DROVER, "run_id", KEY_NAME, D(run_id), .def = "default",
		.reload = RELOAD_RECREATE,
		.help = "Name of this drover among others on the host; names of TAPs, subnets and "
			"MAC addresses are derived from it." },
	{ SECTION_DROVER, "state_dir", KEY_PATH, D(state_dir), .def = "/var/lib/drover",
		.reload = RELOAD_RESTART,
		.help = "Folder for what outlives a reboot: disks, images, state, logs." },
	{ SECTION_DROVER, "run_dir", KEY_PATH, D(run_dir), .def = "/run/drover",
		.reload = RELOAD_RESTART,
		.help = "Folder for what dies with the boot: sockets and the ledger; keep it short, "
			"because the path of a socket has at most 107 bytes." },
	{ SECTION_DROVER, "listen", KEY_PATH, D(listen), .reload = RELOAD_RESTART,
		.help = "Unix socket of the API; if not set, api.sock in run_dir." },
	{ SECTION_DROVER, "group", KEY_STRING, D(group), .def = "drover", .reload = RELOAD_LIVE,
		.help = "Group whose members may use the API beside root and the daemon's user." },
	{ SECTION_DROVER, "on_exit", KEY_ENUM, D(on_exit), .def = "keep", .words = on_exit_words,
		.reload = RELOAD_LIVE,
		.help = "What a daemon that is told to leave does to the machines: they run on and "
			"the next daemon adopts them, or they are stopped." },
	{ SECTION_DROVER, "log_level", KEY_ENUM, D(log_level), .def = "info",
		.words = log_level_words, .reload = RELOAD_LIVE,
		.help = "The least important messages that are logged." },
	{ SECTION_DROVER, "log_format", KEY_ENUM, D(log_format), .def = "text",
		.words = log_format_words, .reload = RELOAD_LIVE,
		.help = "Lines for people, or one JSON object a line." },
	{ SECTION_DROVER, "log_file", KEY_PATH, D(log_file), .reload = RELOAD_LIVE,
		.help = "File to log to; if not set, standard error. SIGHUP opens it again." },
	{ SECTION_DROVER, "cgroup_root", KEY_PATH, D(cgroup_root), .reload = RELOAD_LIVE,
		.help = "Folder of a delegated cgroup v2 tree without processes of its own, below "
			"which each machine gets its cgroup when it starts; if not set, that of "
			"drover-machines.service." },
	{ SECTION_DROVER, "max_starts", KEY_INT, D(max_starts), .def = "0", .max = 1024,
		.reload = RELOAD_LIVE,
		.help = "How many machines may be starting at once; 0 is the number of processors." },
	{ SECTION_DROVER, "events_max", KEY_SIZE, D(events_max), .def = "16M", .min = 64 * KIB,
		.max = GIB, .reload = RELOAD_LIVE,
		.help = "Size at which the file of events is rotated; one old file is kept." },
	{ SECTION_DROVER, "console_max", KEY_SIZE, D(console_max), .def = "1M", .min = 4 * KIB,
		.max = GIB, .reload = RELOAD_LIVE,
		.help = "How much console output is kept of each boot of a machine." },
	{ SECTION_DROVER, "reconcile_interval", KEY_TIME, D(reconcile_interval), .def = "5m",
		.min = SEC, .max = DAY, .reload = RELOAD_LIVE,
		.help = "How often the host is compared with what should be there; what the kernel "
			"tells of is looked at at once." },
	{ SECTION_DROVER, "reconcile_min_age", KEY_TIME, D(reconcile_min_age), .def = "30s",
		.max = DAY, .reload = RELOAD_LIVE,
		.help = "How long something of ours that no machine needs must have been seen before "
			"it is removed." },
	{ SECTION_DROVER, "probe_interval", KEY_TIME, D(probe_interval), .def = "10s", .max = DAY,
		.reload = RELOAD_LIVE,
		.help = "How often the hypervisors are looked at for one that stands still, which "
			"makes its machine unresponsive; 0 is never." },
	{ SECTION_DROVER, "image_auth", KEY_PATH, D(image_auth), .reload = RELOAD_LIVE,
		.help = "Credentials for registries, a docker config.json; credential helpers that "
			"it names are run." },
	{ SECTION_DROVER, "image_plain_http", KEY_LIST, D(image_plain_http), .reload = RELOAD_LIVE,
		.help = "Registry, by host and port if any, that is asked without TLS; may be "
			"repeated. Those on this host are anyway." },
	{ SECTION_DROVER, "image_memory", KEY_SIZE, D(image_memory), .def = "1G", .min = 256 * MIB,
		.max = 64 * GIB, .reload = RELOAD_LIVE,
		.help = "How much address space the process that unpacks an image may take." },
	{ SECTION_DROVER, "image_time", KEY_TIME, D(image_time), .def = "1h", .min = SEC,
		.max = 7 * DAY, .reload = RELOAD_LIVE,
		.help = "How long unpacking an image may take." },
	{ SECTION_DROVER, "image_max", KEY_SIZE, D(image_max), .def = "256G", .min = MIB,
		.max = 64 * TIB, .reload = RELOAD_LIVE,
		.help = "How large an image that is one file may be, and the disk that is made of "
			"one in another format than raw." },
	{ SECTION_DROVER, "image_budget", KEY_SIZE, D(image_budget), .def = "0",
		.max = 1024 * 1024 * GIB, .reload = RELOAD_LIVE,
		.help = "How much the image store may occupy: images that no machine needs are "
			"removed, the one that was used longest ago first, and a pull that cannot "
			"fit is refused. 0 is without limit." },
	{ SECTION_DROVER, "image_age", KEY_TIME, D(image_age), .def = "0s", .max = 3650 * DAY,
		.reload = RELOAD_LIVE,
		.help = "Images that no machine needs and that were not used for so long are "
			"removed; 0 is never." },

	{ SECTION_NETWORK, "kind", KEY_ENUM, N(kind), .def = "p2p", .words = network_kind_words,
		.reload = RELOAD_RECREATE,
		.help = "p2p gives each machine a TAP, a /30 and a dnsmasq of its own. The others have "
			"one bridge for all their machines: nat reaches the world under the host's "
			"address, isolated nothing but its own machines, routed under its own "
			"addresses and is reached from there, bridge has the machines on a bridge "
			"of the host, or one made for it, with real ports. user needs no privilege: "
			"each machine is alone with a network inside of its QEMU, from which it "
			"reaches the world as any program of droverd's user does. macvtap has the "
			"machines share a link of the host, port, which keeps its addresses and may "
			"carry its default route: they are beside the host in the network there and "
			"have their addresses from there. The host itself and these machines do not "
			"reach one another, and what they send is not looked at." },
	{ SECTION_NETWORK, "cidr", KEY_CIDR, N(cidr), .reload = RELOAD_RECREATE,
		.help = "IPv4 range of the network, such as 172.16.0.0/16, of which p2p takes the "
			"machines' subnets; it must not overlap another network. Only bridge can "
			"do without, and serves no addresses then." },
	{ SECTION_NETWORK, "gateway", KEY_STRING, N(gateway), .reload = RELOAD_RECREATE,
		.help = "The host's address on the bridge, and the machines' way out; if not set, "
			"the first of cidr." },
	{ SECTION_NETWORK, "range", KEY_STRING, N(range), .reload = RELOAD_RECREATE,
		.help = "FIRST-LAST: addresses that machines are given; if not set, from the second "
			"of cidr to the last but the broadcast address. Each machine has its own, "
			"kept for it." },
	{ SECTION_NETWORK, "domain", KEY_STRING, N(domain), .reload = RELOAD_LIVE,
		.help = "Domain of the machines' names, such as lab.test: they are found by web-1 and "
			"by web-1.lab.test. On p2p it is what makes the host serve names." },
	{ SECTION_NETWORK, "bridge", KEY_STRING, N(bridge), .reload = RELOAD_RECREATE,
		.help = "Name of the bridge, at most 15 characters; if not set, one of its own. With "
			"kind = bridge it may be one that is there already, which stays as it is." },
	{ SECTION_NETWORK, "port", KEY_LIST, N(port), .reload = RELOAD_RECREATE,
		.help = "Link of the host that becomes a port of the bridge, of kind = bridge; may "
			"be repeated. Of kind = macvtap the one that machines share, which is up." },
	{ SECTION_NETWORK, "mode", KEY_ENUM, N(mode), .def = "bridge", .words = macvtap_words,
		.reload = RELOAD_RECREATE,
		.help = "Of kind = macvtap: whether machines on one port reach one another directly "
			"(bridge), by way of a switch that sends frames back where they came from "
			"(vepa), or not at all (private)." },
	{ SECTION_NETWORK, "vlan", KEY_INT, N(vlan), .def = "0", .max = 4094,
		.reload = RELOAD_RECREATE,
		.help = "802.1Q VLAN, 1 to 4094, of the ports that is the network's: PORT.VLAN is "
			"made for it, and the port itself stays the host's; so several networks can "
			"share one. 0 is the port as it is." },
	{ SECTION_NETWORK, "uplink", KEY_BOOL, N(uplink), .def = "no", .reload = RELOAD_LIVE,
		.help = "Whether a port may be the link of the host's default route, whose addresses "
			"are of no use once it is a port." },
	{ SECTION_NETWORK, "mtu", KEY_INT, N(mtu), .def = "0", .max = 65535,
		.reload = RELOAD_RECREATE,
		.help = "Largest packet, in bytes from 576 on, of bridge and TAPs, and what guests are told; 0 is 1500, and with kind = macvtap what the port has." },
	{ SECTION_NETWORK, "peers", KEY_BOOL, N(peers), .def = "yes", .reload = RELOAD_RECREATE,
		.help = "Whether the machines of the network reach one another. Those of another never do." },
	{ SECTION_NETWORK, "open", KEY_LIST, N(open), .reload = RELOAD_LIVE,
		.help = "What of the host itself machines may reach beside addresses and names: "
			"tcp/PORT, udp/PORT or ping; may be repeated. Not for p2p, where it is "
			"everything." },
	{ SECTION_NETWORK, "egress", KEY_LIST, N(egress), .reload = RELOAD_LIVE,
		.help = "HOST, HOST:PORT or udp/HOST:PORT: what alone machines may reach beyond their "
			"network; may be repeated. HOST is an address, a prefix, or a name, which "
			"stands for what is below it, too, and for the addresses that a machine is told "
			"when it asks the host for the name. If not set, everything. Not for p2p." },
	{ SECTION_NETWORK, "rate", KEY_STRING, N(rate), .reload = RELOAD_RECREATE,
		.help = "How fast each nic may send and receive, in bits a second, such as 10M, or "
			"UP/DOWN, of which 0 is no limit; k, M and G are thousands. If not set, as fast as it can." },
	{ SECTION_NETWORK, "dns", KEY_LIST, N(dns), .reload = RELOAD_LIVE,
		.help = "IPv4 or IPv6 address of a DNS server; may be repeated. Machines ask the "
			"host, which asks it (if not set, what the host itself asks, and on isolated "
			"nobody). On p2p it is offered to the guests as it is, unless the host serves "
			"names there: with domain, record, dns_log or an IPv6 address here. none: "
			"there is no DNS." },
	{ SECTION_NETWORK, "record", KEY_LIST, N(record), .reload = RELOAD_LIVE,
		.help = "NAME=ADDRESS, IPv4 or IPv6: a name that machines find there, and reverse, "
			"whatever the world calls so; may be repeated, also for a second address of "
			"the other family. Names below it stay the world's." },
	{ SECTION_NETWORK, "dns_log", KEY_BOOL, N(dns_log), .def = "no", .reload = RELOAD_LIVE,
		.help = "Log what machines ask the DNS, and what they are told, in "
			"log/network-NAME.log of state_dir (on p2p in the machine's dnsmasq.log)." },
	{ SECTION_NETWORK, "mirror", KEY_LIST, N(mirror), .ref = SECTION_REGISTRY,
		.reload = RELOAD_LIVE,
		.help = "[registry] that machines get when they ask for its hosts by name; may be "
			"repeated. It is on an address of its own, on port 443 with a certificate of "
			"drover's own CA (drover ca), which http://ADDRESS/drover-ca.pem gives out. "
			"Behind the name, with blanks between: address=ADDRESS in place of the last "
			"free one of range; http for plain HTTP on port 80; port=PORT. Not for p2p." },
	{ SECTION_NETWORK, "nat", KEY_BOOL, N(nat), .def = "yes", .reload = RELOAD_LIVE,
		.help = "Whether guests reach the world under the host's address." },
	{ SECTION_NETWORK, "cidr6", KEY_STRING, N(v6.cidr), .reload = RELOAD_RECREATE,
		.help = "IPv6 network beside cidr, such as fd00:77::/64; on p2p the range of which each "
			"machine has a prefix. The host tells it by router advertisements." },
	{ SECTION_NETWORK, "gateway6", KEY_STRING, N(v6.gateway), .reload = RELOAD_RECREATE,
		.help = "The host's IPv6 address on the bridge; if not set, the first of cidr6. "
			"Machines go out by fe80::1." },
	{ SECTION_NETWORK, "range6", KEY_STRING, N(v6.range), .reload = RELOAD_RECREATE,
		.help = "FIRST-LAST: addresses that machines are given by DHCPv6; if not set, all of "
			"cidr6 behind the gateway. Each machine has its own, kept for it." },
	{ SECTION_NETWORK, "length6", KEY_INT, N(v6.length), .def = "64", .min = 64, .max = 127,
		.reload = RELOAD_RECREATE,
		.help = "Length of each machine's prefix of cidr6 on p2p: 64, or 127 for two "
			"addresses." },
	{ SECTION_NETWORK, "dhcp6", KEY_ENUM, N(v6.dhcp), .def = "auto", .words = choice_words,
		.reload = RELOAD_RECREATE,
		.help = "Whether addresses of cidr6 are given by DHCPv6; auto: on p2p, with range6, and "
			"where cidr6 is no /64. Otherwise machines make them up from the prefix." },
	{ SECTION_NETWORK, "ra_managed", KEY_ENUM, N(v6.managed), .def = "auto",
		.words = choice_words, .reload = RELOAD_LIVE,
		.help = "Flag M of router advertisements: addresses come by DHCPv6; auto: if they "
			"do." },
	{ SECTION_NETWORK, "ra_other", KEY_ENUM, N(v6.other), .def = "auto", .words = choice_words,
		.reload = RELOAD_LIVE,
		.help = "Flag O of router advertisements: all but addresses comes by DHCPv6; auto: "
			"with dhcp6." },
	{ SECTION_NETWORK, "ra_autonomous", KEY_ENUM, N(v6.autonomous), .def = "auto",
		.words = choice_words, .reload = RELOAD_RECREATE,
		.help = "Flag A of the prefix: machines make addresses up from it (SLAAC); auto: "
			"without dhcp6." },
	{ SECTION_NETWORK, "ra_onlink", KEY_BOOL, N(v6.on_link), .def = "yes",
		.reload = RELOAD_LIVE,
		.help = "Flag L of the prefix: its addresses are reached without the host." },
	{ SECTION_NETWORK, "ra_interval", KEY_TIME, N(v6.interval), .def = "10m", .min = 4 * SEC,
		.max = 1800 * SEC, .reload = RELOAD_LIVE,
		.help = "Longest time between two router advertisements." },
	{ SECTION_NETWORK, "ra_lifetime", KEY_TIME, N(v6.router_lifetime), .def = "30m",
		.max = 9000 * SEC, .reload = RELOAD_LIVE,
		.help = "How long a router advertisement makes the host the way out; 0: not at all, as "
			"always on isolated." },
	{ SECTION_NETWORK, "lifetime6", KEY_TIME, N(v6.lifetime), .def = "1h", .min = 10 * SEC,
		.max = 3650 * DAY, .reload = RELOAD_LIVE,
		.help = "How long an IPv6 address or the prefix is valid from when it was told; at "
			"least 2m unless one of the next five keys is there." },
	{ SECTION_NETWORK, "preferred6", KEY_TIME, N(v6.preferred), .def = "0s", .max = 3650 * DAY,
		.reload = RELOAD_LIVE,
		.help = "For how much of lifetime6 new connections use the address; 0: all of it. With "
			"it, or one of the next four keys, kea-dhcp6 serves DHCPv6 and radvd "
			"advertises the router, in place of dnsmasq. Not for p2p." },
	{ SECTION_NETWORK, "renew6", KEY_TIME, N(v6.renew), .def = "0s", .max = 3650 * DAY,
		.reload = RELOAD_LIVE,
		.help = "When machines renew what they have by DHCPv6 (T1); 0: after half of "
			"preferred6." },
	{ SECTION_NETWORK, "rebind6", KEY_TIME, N(v6.rebind), .def = "0s", .max = 3650 * DAY,
		.reload = RELOAD_LIVE,
		.help = "When they ask any server for it (T2); 0: after four fifths of preferred6." },
	{ SECTION_NETWORK, "delegate", KEY_STRING, N(v6.delegate), .reload = RELOAD_RECREATE,
		.help = "Pool of prefixes for what is behind machines, such as fd00:88::/48: each has "
			"one delegated by DHCPv6 when it asks, its own, kept for it, and the host has a "
			"route there for as long. Not for p2p." },
	{ SECTION_NETWORK, "delegate_length", KEY_INT, N(v6.delegate_length), .def = "64",
		.min = 16, .max = 127, .reload = RELOAD_RECREATE,
		.help = "Length of each of these prefixes." },
	{ SECTION_NETWORK, "refresh6", KEY_TIME, N(v6.refresh), .def = "0s", .max = 365 * DAY,
		.reload = RELOAD_LIVE,
		.help = "After which time machines ask for DNS servers and the like again (DHCPv6 "
			"information refresh), at least 10m; 0: nothing is said, which is a day." },
	{ SECTION_NETWORK, "dns6", KEY_LIST, N(v6.dns), .reload = RELOAD_LIVE,
		.help = "IPv6 address of a DNS server that machines are told, by router advertisement "
			"and DHCPv6; may be repeated. If not set, the host where it serves names; "
			"none: none." },
	{ SECTION_NETWORK, "search", KEY_LIST, N(v6.search), .reload = RELOAD_LIVE,
		.help = "Domain that machines are told to search, by router advertisement and DHCPv6; "
			"may be repeated. If not set, domain." },
	{ SECTION_NETWORK, "nat6", KEY_BOOL, N(v6.nat), .def = "yes", .reload = RELOAD_LIVE,
		.help = "Whether machines of p2p and nat reach the IPv6 world under the host's "
			"address; with no they keep their own, and the world must know the way." },
	{ SECTION_NETWORK, "rp_filter", KEY_ENUM, N(rp_filter), .def = "ours",
		.words = rp_filter_words, .reload = RELOAD_LIVE,
		.help = "Turn reverse path filtering off on our interfaces only, or also in "
			"conf/all, because the kernel applies the larger of the two." },

	{ SECTION_REGISTRY, "upstream", KEY_STRING, R(upstream), .required = true,
		.reload = RELOAD_RESTART,
		.help = "URL of the registry that is cached, such as https://ghcr.io." },
	{ SECTION_REGISTRY, "listen", KEY_STRING, R(listen), .required = true,
		.reload = RELOAD_RESTART,
		.help = "Address and port on which the cache serves, such as 127.0.0.1:5000." },
	{ SECTION_REGISTRY, "storage", KEY_PATH, R(storage), .reload = RELOAD_RESTART,
		.help = "Folder of the cached blobs; if not set, registry/NAME in state_dir." },
	{ SECTION_REGISTRY, "hosts", KEY_LIST, R(hosts), .reload = RELOAD_LIVE,
		.help = "Host, with port if any, whose images are pulled through this cache; may be "
			"repeated; if not set, upstream's." },
	{ SECTION_REGISTRY, "offline", KEY_BOOL, R(offline), .def = "no", .reload = RELOAD_RESTART,
		.help = "Serve what is cached and never ask upstream." },
	{ SECTION_REGISTRY, "budget", KEY_SIZE, R(budget), .def = "0", .max = 1024 * 1024 * GIB,
		.reload = RELOAD_RESTART,
		.help = "How much the cached blobs may occupy; those that were used longest ago are "
			"removed, for which the cache stops for a moment. 0 is without limit." },
	{ SECTION_REGISTRY, "age", KEY_TIME, R(age), .def = "0s", .max = 3650 * DAY,
		.reload = RELOAD_RESTART,
		.help = "Cached blobs that were not used for so long are removed; 0 is never." },
	{ SECTION_REGISTRY, "prefetch", KEY_LIST, R(prefetch), .reload = RELOAD_RESTART,
		.help = "Image that is fetched into the cache before anybody asks for it, once the "
			"cache is up and every day; may be repeated." },

	{ SECTION_KEY, "public", KEY_STRING, K(public_key), .reload = RELOAD_LIVE,
		.help = "The SSH public key itself, as in authorized_keys. A key has one of public, "
			"file and generate." },
	{ SECTION_KEY, "file", KEY_PATH, K(file), .reload = RELOAD_LIVE,
		.help = "File that holds the public key." },
	{ SECTION_KEY, "generate", KEY_BOOL, K(generate), .def = "no", .reload = RELOAD_LIVE,
		.help = "Make an Ed25519 pair in keys/NAME below state_dir at the first use." },
	{ SECTION_KEY, "private", KEY_PATH, K(private_key), .reload = RELOAD_LIVE,
		.help = "File of the private key, for `drover ssh`; with generate it is known." },

	{ SECTION_IMAGE, "source", KEY_IMAGE, I(source), .required = true, .reload = RELOAD_LIVE,
		.help = "Where it comes from: https://HOST/FILE, http://HOST/FILE (which needs "
			"sha256), file:/PATH or a path, each a disk or a kernel in one file; or an "
			"image as in rootfs. Machines name the image in kernel and rootfs; its name "
			"goes before that of an image in a registry." },
	{ SECTION_IMAGE, "sha256", KEY_STRING, I(sha256), .reload = RELOAD_LIVE,
		.help = "What the file's content must be, 64 hex digits; checked as it comes. "
			"Without it, what came first is kept until pull = always asks again." },
	{ SECTION_IMAGE, "format", KEY_ENUM, I(format), .def = "auto", .words = format_words,
		.reload = RELOAD_LIVE,
		.help = "raw, qcow2, vmdk, vhdx or efi (a UKI). auto goes by the ending of the "
			"file's name, never by what it holds, and is raw for endings that say "
			"nothing. All but raw and efi are made raw by qemu-img." },
	{ SECTION_IMAGE, "backing", KEY_LIST, I(backing), .reload = RELOAD_LIVE,
		.help = "Path of the file that a qcow2 lies above, whatever name it has for it; "
			"repeated, from the top, at most 4. A qcow2 with a backing file that is "
			"not named here is refused." },

	{ SECTION_VM, "template", KEY_REF, V(template_name), .ref = SECTION_TEMPLATE, .meta = true,
		.help = "Template whose keys apply where this section does not set them; a template "
			"can have one itself. A list replaces the template's." },
	{ SECTION_VM, "hypervisor", KEY_STRING, V(hypervisor), .def = "qemu",
		.reload = RELOAD_RESTART,
		.help = "Program that runs the machine: qemu or cloud-hypervisor (v50 or later)." },
	{ SECTION_VM, "binary", KEY_STRING, V(binary), .reload = RELOAD_RESTART,
		.help = "The hypervisor's program, by absolute path or by PATH; if not set, "
			"qemu-system-ARCH of the host's architecture, or cloud-hypervisor." },
	{ SECTION_VM, "arch", KEY_ENUM, V(arch), .def = HOST_ARCH, .words = arch_words,
		.reload = RELOAD_RESTART,
		.help = "Architecture of the guest; one that is not the host's is emulated." },
	{ SECTION_VM, "machine", KEY_ENUM, V(machine), .def = HOST_MACHINE, .words = machine_words,
		.reload = RELOAD_RESTART,
		.help = "Machine type; virt is that of arch = aarch64, which has no other." },
	{ SECTION_VM, "accel", KEY_ENUM, V(accel), .def = "auto", .words = accel_words,
		.reload = RELOAD_RESTART,
		.help = "Accelerator; auto takes KVM where it is of use, else emulation." },
	{ SECTION_VM, "cpu", KEY_STRING, V(cpu), .reload = RELOAD_RESTART,
		.help = "CPU model; if not set, the host's under KVM, else the fullest there is." },
	{ SECTION_VM, "vcpus", KEY_INT, V(vcpus), .def = "1", .min = 1, .max = 255,
		.reload = RELOAD_RESTART, .help = "Number of virtual CPUs." },
	{ SECTION_VM, "vcpus_max", KEY_INT, V(vcpus_max), .def = "0", .max = 255,
		.reload = RELOAD_RESTART,
		.help = "Up to how many virtual CPUs the running machine can be given; 0 is vcpus." },
	{ SECTION_VM, "sockets", KEY_INT, V(sockets), .def = "0", .max = 255,
		.reload = RELOAD_RESTART,
		.help = "Sockets that the virtual CPUs sit in. sockets, cores and threads multiply "
			"to vcpus (vcpus_max, if that is set); those that are 0 follow from the "
			"others." },
	{ SECTION_VM, "cores", KEY_INT, V(cores), .def = "0", .max = 255, .reload = RELOAD_RESTART,
		.help = "Cores of a socket." },
	{ SECTION_VM, "threads", KEY_INT, V(threads), .def = "0", .max = 255,
		.reload = RELOAD_RESTART, .help = "Threads of a core." },
	{ SECTION_VM, "memory", KEY_SIZE, V(memory), .def = "512M", .min = 4 * MIB, .max = 16 * TIB,
		.reload = RELOAD_RESTART, .help = "Memory, in whole MiB." },
	{ SECTION_VM, "memory_max", KEY_SIZE, V(memory_max), .def = "0", .max = 16 * TIB,
		.reload = RELOAD_RESTART,
		.help = "Up to how much memory the running machine can be given; 0 is memory." },
	{ SECTION_VM, "hugepages", KEY_BOOL, V(hugepages), .def = "no", .reload = RELOAD_RESTART,
		.help = "Take the guest's memory from the host's pool of huge pages "
			"(vm.nr_hugepages)." },
	{ SECTION_VM, "memory_shared", KEY_BOOL, V(memory_shared), .def = "no",
		.reload = RELOAD_RESTART,
		.help = "Let other processes map the guest's memory, as vhost-user devices must; "
			"with share it is so in any case." },
	{ SECTION_VM, "firmware", KEY_STRING, V(firmware), .reload = RELOAD_RESTART,
		.help = "bios, uefi (OVMF or AAVMF; the machine has its own variables, which are "
			"kept) or the path of an image; if not set, the machine type's own, which "
			"is bios on x86_64 and, where there is no kernel, uefi on aarch64." },
	{ SECTION_VM, "boot", KEY_STRING, V(boot), .reload = RELOAD_RESTART,
		.help = "What the firmware tries to boot from, in this order: disk, cdrom, network, "
			"with commas between; if not set, disk and cdrom, or network where there is "
			"neither." },
	{ SECTION_VM, "kernel", KEY_IMAGE, V(kernel), .reload = RELOAD_RESTART,
		.help = "Kernel: a path (with / or . in front), an OCI image with /boot/vmlinux or "
			"/boot/vmlinuz*, a file by https:// or file:/, or the name of an [image]; "
			"with firmware = uefi also a UKI (in an image /boot/*.efi or "
			"/EFI/Linux/*.efi). Without one the machine boots from a disk." },
	{ SECTION_VM, "initrd", KEY_IMAGE, V(initrd), .reload = RELOAD_RESTART,
		.help = "Initrd: a path or an OCI image; if not set, /boot/initrd* of the kernel's "
			"image, if it has one." },
	{ SECTION_VM, "rootfs", KEY_IMAGE, V(rootfs), .reload = RELOAD_RECREATE,
		.help = "First disk: an OCI image, which is made into an ext4 disk, the path of a "
			"raw image file, a disk by https:// or file:/ (see [image]), or the name of "
			"an [image]; the machine gets a clone of it. Into one that was made of an OCI "
			"image go, where the image does not say them itself, the root disk (fstab, "
			"unless cmdline has root=), the host name (hosts) and DHCP (for "
			"systemd-networkd or ifupdown, with a network)." },
	{ SECTION_VM, "cmdline", KEY_STRING, V(cmdline), .late = true, .reload = RELOAD_RESTART,
		.help = "Kernel command line; without root= in it, root=/dev/vda, rw and a console "
			"are added." },
	{ SECTION_VM, "disk", KEY_ENUM, V(disk), .def = "keep", .words = disk_words,
		.reload = RELOAD_RECREATE,
		.help = "The clone is kept until the machine is deleted, or it is made anew at the "
			"next start after a stop." },
	{ SECTION_VM, "clone", KEY_ENUM, V(clone), .def = "auto", .words = clone_words,
		.reload = RELOAD_LIVE,
		.help = "How the first disk is made from now on: reflink, which shares the blocks "
			"of the image's disk (XFS, Btrfs); overlay, a qcow2 that holds what differs "
			"from it; or a sparse copy of all of it. auto is the first of these that can "
			"be: an overlay only with hypervisor = qemu, above the image's disk in the "
			"store and never above a raw file that rootfs names, which may change, and "
			"only where the filesystem in it needs not grow. What an overlay lies above "
			"stays as long as it does, whatever becomes of the image." },
	{ SECTION_VM, "ephemeral", KEY_BOOL, V(ephemeral), .def = "no", .reload = RELOAD_LIVE,
		.help = "Throw the clone and the machine's own volumes away at the end of each run, "
			"whatever ended it, so that every start begins with new ones; they outlive "
			"only the guest's reboots and `drover suspend`. Files that rootfs and volume "
			"name by their path stay." },
	{ SECTION_VM, "warm", KEY_BOOL, V(warm), .def = "no", .reload = RELOAD_RESTART,
		.help = "A warm template: the machine boots, and once it is ready it is frozen and "
			"its run ends. What is kept of it (memory, devices, disks) is what each "
			"machine with `from` begins with, in a fraction of a boot's time. It is made "
			"anew when the configuration, the kernel, the image or the hypervisor has "
			"changed, and by `drover start`. Needs health, which tells that it is ready, "
			"and agent = yes, by which the others learn who they are; its disks are "
			"made anew for each boot." },
	{ SECTION_VM, "from", KEY_REF, V(from), .ref = SECTION_VM, .reload = RELOAD_LIVE,
		.help = "The warm template (a [vm] with warm = yes) that this machine begins as: "
			"where its disk is made it starts from the template's memory instead of "
			"booting, with a name, machine-id, SSH host keys, MAC and address of its "
			"own. Keys that this section and its template do not set are the warm "
			"template's, but for autostart and hostname. Where that cannot be done it "
			"boots (condition cold-start)." },
	{ SECTION_VM, "disk_size", KEY_SIZE, V(disk_size), .def = "0", .max = 64 * TIB,
		.reload = RELOAD_RECREATE,
		.help = "Size of the first disk, at least 1M; 0 is the image's." },
	{ SECTION_VM, "volume", KEY_LIST, V(volumes), .reload = RELOAD_RESTART,
		.help = "Further disk; may be repeated, at most 16. NAME size=SIZE: one of the "
			"machine's own, made empty and of this size when it is missing and kept "
			"until the machine is deleted; or /PATH: a file or block device that is there. Behind that, with "
			"blanks between: format=raw or format=qcow2 (if not set, by the path's "
			"ending, else raw; that of one's own cannot change any more), ro, serial=TEXT "
			"(if not set, NAME), by which the guest tells disks apart." },
	{ SECTION_VM, "cdrom", KEY_PATH, V(cdrom), .reload = RELOAD_RESTART,
		.help = "ISO image in a CD-ROM drive." },
	{ SECTION_VM, "share", KEY_LIST, V(shares), .reload = RELOAD_RESTART,
		.help = "TAG /PATH: a folder of the host that the guest mounts by `mount -t "
			"virtiofs TAG /mnt`; ro behind it where virtiofsd can. May be repeated, at "
			"most 8. Needs the program virtiofsd." },
	{ SECTION_VM, "network", KEY_LIST, V(networks), .ref = SECTION_NETWORK,
		.reload = RELOAD_RECREATE,
		.help = "Network of a nic; repeated for further nics, at most 8. Behind the name, with "
			"blanks between: address=ADDRESS, one of cidr that the nic always has (not "
			"on p2p), or address=none for one that is given none; mac=MAC in place of one "
			"made from the names; rate=RATE in place of the network's." },
	{ SECTION_VM, "forward", KEY_LIST, V(forwards), .reload = RELOAD_RESTART,
		.help = "[udp/]PORT:PORT: what comes to this port of the host goes to that port of "
			"the machine's first nic; may be repeated. Not on p2p and isolated." },
	{ SECTION_VM, "ssh_key", KEY_LIST, V(ssh_keys), .ref = SECTION_KEY,
		.reload = RELOAD_RESTART,
		.help = "Key that may log in as ssh_user; may be repeated." },
	{ SECTION_VM, "ssh_user", KEY_STRING, V(ssh_user), .def = "root", .reload = RELOAD_RESTART,
		.help = "User whose authorized_keys get the keys, and as whom `drover ssh` logs in." },
	{ SECTION_VM, "hostname", KEY_STRING, V(hostname), .reload = RELOAD_RESTART,
		.help = "The guest's host name; if not set, the machine's name." },
	{ SECTION_VM, "autostart", KEY_BOOL, V(autostart), .def = "yes", .reload = RELOAD_LIVE,
		.help = "Start the machine when it is new and when the host has booted; a later "
			"start or stop by a person counts more." },
	{ SECTION_VM, "after", KEY_LIST, V(after), .ref = SECTION_VM, .reload = RELOAD_LIVE,
		.help = "Machines that start before this one: it waits until they are up or have "
			"failed. A machine that a {{vm.NAME.address}} names comes before by itself." },
	{ SECTION_VM, "on_change", KEY_ENUM, V(on_change), .def = "restart",
		.words = on_change_words, .reload = RELOAD_LIVE,
		.help = "What a reload does with a running machine whose change needs a restart: it "
			"restarts it, or leaves it until its next start (condition restart-pending)." },
	{ SECTION_VM, "restart", KEY_ENUM, V(restart), .def = "no", .words = restart_words,
		.reload = RELOAD_LIVE,
		.help = "Whether the machine is started again after a run that nobody ended." },
	{ SECTION_VM, "restart_delay", KEY_TIME, V(restart_delay), .def = "1s", .max = DAY,
		.reload = RELOAD_LIVE,
		.help = "Time before the first restart; it doubles with each further one." },
	{ SECTION_VM, "restart_max_delay", KEY_TIME, V(restart_max_delay), .def = "1m", .max = DAY,
		.reload = RELOAD_LIVE, .help = "The longest time before a restart." },
	{ SECTION_VM, "restart_reset", KEY_TIME, V(restart_reset), .def = "1m", .max = DAY,
		.reload = RELOAD_LIVE,
		.help = "A run as long as this is stable: delay and count begin anew after it." },
	{ SECTION_VM, "restart_limit", KEY_INT, V(restart_limit), .def = "5", .max = 1000000,
		.reload = RELOAD_LIVE,
		.help = "Restarts in a row before the machine counts as failed; 0 is no limit." },
	{ SECTION_VM, "stop_timeout", KEY_TIME, V(stop_timeout), .def = "30s", .max = DAY,
		.reload = RELOAD_LIVE,
		.help = "How long the guest may take to shut down before the hypervisor is ended." },
	{ SECTION_VM, "start_timeout", KEY_TIME, V(start_timeout), .def = "1m", .min = SEC,
		.max = HOUR, .reload = RELOAD_LIVE,
		.help = "How long the hypervisor may take until its monitor answers." },
	{ SECTION_VM, "pull", KEY_ENUM, V(pull), .def = "missing", .words = pull_words,
		.reload = RELOAD_LIVE,
		.help = "When images are pulled: if they are not there, at each start, or never." },
	{ SECTION_VM, "jail", KEY_BOOL, V(jail), .def = "yes", .reload = RELOAD_RESTART,
		.help = "Run the hypervisor below drover-jail, which keeps its exit status for a "
			"daemon that comes later." },
	{ SECTION_VM, "start_paused", KEY_BOOL, V(start_paused), .def = "no",
		.reload = RELOAD_RESTART,
		.help = "Do not let the guest run before `drover resume`." },
	{ SECTION_VM, "reboot", KEY_BOOL, V(reboot), .def = "yes", .reload = RELOAD_RESTART,
		.help = "Whether the guest may reboot; if not, its reboot ends the run." },
	{ SECTION_VM, "on_panic", KEY_ENUM, V(stop_on_panic), .def = "stop",
		.words = on_panic_words, .reload = RELOAD_LIVE,
		.help = "What a kernel panic does, which the guest tells by its pvpanic device or on "
			"the serial console: it ends the run, in the latter case when the guest "
			"reboots or has been silent for 3 s (then `restart` decides), or nothing." },
	{ SECTION_VM, "health", KEY_LIST, V(health), .reload = RELOAD_LIVE,
		.help = "Check whether the guest is well; may be repeated. tcp:PORT: it can be "
			"connected to; ssh: port 22 says it is an SSH server; http://:PORT/PATH: "
			"a GET is answered with a status from 200 to 399 (a host in front of the "
			"colon is asked in place of the machine); agent: the guest agent answers "
			"(needs agent = yes); console:REGEX: a line of the serial console has matched "
			"this POSIX extended regular expression since the guest booted. The machine "
			"is ready once all of them have passed." },
	{ SECTION_VM, "health_interval", KEY_TIME, V(health_interval), .def = "10s", .min = 100,
		.max = DAY, .reload = RELOAD_LIVE,
		.help = "Time from one round of checks to the next; until the machine is ready, at "
			"most 1 s." },
	{ SECTION_VM, "health_timeout", KEY_TIME, V(health_timeout), .def = "5s", .min = 10,
		.max = HOUR, .reload = RELOAD_LIVE,
		.help = "How long a check may take before it has failed." },
	{ SECTION_VM, "health_retries", KEY_INT, V(health_retries), .def = "3", .min = 1,
		.max = 1000, .reload = RELOAD_LIVE,
		.help = "Rounds with a failed check, in a row, before the machine is unhealthy." },
	{ SECTION_VM, "health_start_period", KEY_TIME, V(health_start_period), .def = "30s",
		.max = DAY, .reload = RELOAD_LIVE,
		.help = "How long after the guest's boot failed checks do not count, unless it has "
			"been ready." },
	{ SECTION_VM, "health_action", KEY_ENUM, V(health_action), .def = "none",
		.words = health_action_words, .reload = RELOAD_LIVE,
		.help = "What is done to an unhealthy machine beside saying so: it is reset, or "
			"stopped and started again, whatever `restart` says." },
	{ SECTION_VM, "watchdog", KEY_ENUM, V(watchdog), .def = "none", .words = watchdog_words,
		.reload = RELOAD_RESTART,
		.help = "Watchdog device, which acts when a guest that has armed it is silent: "
			"i6300esb is on PCI, ib700 on ISA; a microvm can have neither." },
	{ SECTION_VM, "watchdog_action", KEY_ENUM, V(watchdog_action), .def = "reset",
		.words = watchdog_action_words, .reload = RELOAD_RESTART,
		.help = "What the watchdog does; with poweroff (and with reset, if reboot = no) the "
			"run has failed and `restart` decides." },
	{ SECTION_VM, "agent", KEY_BOOL, V(agent), .def = "no", .reload = RELOAD_RESTART,
		.help = "Give the guest the port of the QEMU guest agent; a stop asks the agent "
			"first, if it answers." },
	{ SECTION_VM, "balloon", KEY_BOOL, V(balloon), .def = "no", .reload = RELOAD_RESTART,
		.help = "A balloon device, by which the guest can be made to give memory back." },
	{ SECTION_VM, "tpm", KEY_BOOL, V(tpm), .def = "no", .reload = RELOAD_RESTART,
		.help = "A TPM 2.0, whose state is kept until the machine is deleted. Needs the "
			"program swtpm." },
	{ SECTION_VM, "secure_boot", KEY_BOOL, V(secure_boot), .def = "no",
		.reload = RELOAD_RESTART,
		.help = "UEFI with Secure Boot on and Microsoft's keys enrolled: only what is signed "
			"boots. Needs machine = q35 and firmware = uefi (Debian package ovmf)." },
	{ SECTION_VM, "vhost", KEY_ENUM, V(vhost), .def = "auto", .words = vhost_words,
		.reload = RELOAD_RESTART,
		.help = "Whether the host's kernel moves the packets of the nics (/dev/vhost-net, "
			"kernel module vhost_net), which costs less; auto: where that opens and the "
			"guest runs by KVM. A TAP that is deleted under it cannot be put back." },
	{ SECTION_VM, "vsock", KEY_STRING, V(vsock), .def = "none", .reload = RELOAD_RESTART,
		.help = "The guest's vsock address (CID): none, auto (one of its own, kept) or a "
			"number from 3. Needs /dev/vhost-vsock (kernel module vhost_vsock)." },
	{ SECTION_VM, "display", KEY_ENUM, V(display), .def = "none", .words = display_words,
		.reload = RELOAD_RESTART,
		.help = "none, or vnc: a screen whose VNC server listens on the socket vnc.sock in "
			"the machine's folder below run_dir." },
	{ SECTION_VM, "hotplug_slots", KEY_INT, V(hotplug_slots), .def = "0", .max = 16,
		.reload = RELOAD_RESTART,
		.help = "How many disks and nics can be added while the machine runs; each slot "
			"makes its boot a little longer. Not for microvm and pc." },
	{ SECTION_VM, "memory_limit", KEY_ENUM, V(memory_limit), .def = "auto",
		.words = memory_limit_words, .reload = RELOAD_LIVE,
		.help = "Whether the hypervisor may use no more than memory and memory_overhead; "
			"beyond that the kernel kills it (cause oom-kill). Limits need a cgroup "
			"(cgroup_root); without one the machine runs with the condition "
			"no-cgroup. auto is a limit where there is such a cgroup, an eighth of "
			"memory higher, and 1G more unless accel = kvm." },
	{ SECTION_VM, "memory_overhead", KEY_SIZE, V(memory_overhead), .def = "256M",
		.max = 16 * TIB, .reload = RELOAD_LIVE,
		.help = "What memory_limit leaves the hypervisor beside the guest's memory; with "
			"accel = tcg the code that it translates can take 1G more." },
	{ SECTION_VM, "memory_high", KEY_SIZE, V(memory_high), .def = "0", .max = 16 * TIB,
		.reload = RELOAD_LIVE,
		.help = "From so much memory of the hypervisor on the kernel takes memory back from "
			"it and slows it down, instead of killing it at its limit; 0 is nowhere." },
	{ SECTION_VM, "cpu_limit", KEY_INT, V(cpu_limit), .def = "0", .max = 100000,
		.reload = RELOAD_LIVE,
		.help = "The most processor time, in percent of one processor (250: two and a "
			"half); 0 is no limit." },
	{ SECTION_VM, "cpu_weight", KEY_INT, V(cpu_weight), .def = "0", .max = 10000,
		.reload = RELOAD_LIVE,
		.help = "Share of the processors where machines compete for them, 1 to 10000; 0 is "
			"the kernel's default of 100." },
	{ SECTION_VM, "io_weight", KEY_INT, V(io_weight), .def = "0", .max = 10000,
		.reload = RELOAD_LIVE,
		.help = "Share of the disks where machines compete for them, 1 to 10000; 0 is the "
			"kernel's default of 100." },
	{ SECTION_VM, "io_read_limit", KEY_SIZE, V(io_read_limit), .def = "0", .max = 16 * TIB,
		.reload = RELOAD_LIVE,
		.help = "The most bytes a second that the machine reads from the disk on which its "
			"own lies; 0 is no limit. Where that is no block device (overlayfs, tmpfs, "
			"btrfs) the machine runs with the condition no-cgroup." },
	{ SECTION_VM, "io_write_limit", KEY_SIZE, V(io_write_limit), .def = "0", .max = 16 * TIB,
		.reload = RELOAD_LIVE, .help = "The same for what it writes." },
	{ SECTION_VM, "io_read_ops", KEY_INT, V(io_read_ops), .def = "0", .max = 1000000000,
		.reload = RELOAD_LIVE,
		.help = "The most reads a second, as io_read_limit; 0 is no limit." },
	{ SECTION_VM, "io_write_ops", KEY_INT, V(io_write_ops), .def = "0", .max = 1000000000,
		.reload = RELOAD_LIVE,
		.help = "The most writes a second, as io_write_limit; 0 is no limit." },
	{ SECTION_VM, "pids_limit", KEY_INT, V(pids_limit), .def = "0", .max = 4194304,
		.reload = RELOAD_LIVE,
		.help = "The most threads of the hypervisor and its parent drover-jail; 0 is no "
			"limit." },
	{ SECTION_VM, "qmp_write", KEY_BOOL, V(qmp_write), .def = "no", .reload = RELOAD_LIVE,
		.help = "Whether clients of the machine's qmp.sock may send commands that change "
			"something; if not, they only read (query-* and the like)." },
	{ SECTION_VM, "qemu_args", KEY_ARGS, V(qemu_args), .late = true, .reload = RELOAD_RESTART,
		.help = "Further arguments for QEMU, split at white space (a value in double quotes "
			"is one argument); may be repeated." },
};
const size_t config_nkeys = ARRAY_LEN(config_keys);

static const struct {
	const char *name;
	size_t size;
	const char *help;
} kinds[SECTION_KINDS] = {
	[SECTION_DROVER] = { "drover", sizeof(struct drover_config), "The daemon itself." },
	[SECTION_NETWORK] = { "network", sizeof(struct network_config),
		"A network that machines can be in." },
	[SECTION_REGISTRY] = { "registry", sizeof(struct registry_config),
		"A pull-through cache of an image registry, started and watched by droverd." },
	[SECTION_KEY] = { "key", sizeof(struct key_config), "An SSH key for machines." },
	[SECTION_IMAGE] = { "image", sizeof(struct image_config_section),
		"An image under a name, with what is known of it." },
	[SECTION_TEMPLATE] = { "template", sizeof(struct vm_config),
		"Keys of [vm], shared by the machines that name it." },
	[SECTION_VM] = { "vm", sizeof(struct vm_config), "A machine." },
};

const char *section_kind_name(enum section_kind k)
{
	return kinds[k].name;
}

size_t section_kind_size(enum section_kind k)
{
	return kinds[k].size;
}

const char *section_kind_help(enum section_kind k)
{
	return kinds[k].help;
}

bool section_kind_find(const char *name, enum section_kind *out)
{
	size_t i;

	for (i = 0; i < SECTION_KINDS; i++) {
		if (strcmp(kinds[i].name, name) == 0) {
			*out = (enum section_kind)i;
			return true;
		}
	}
	return false;
}

const struct config_key *section_keys(enum section_kind kind, size_t *n)
{
	size_t first = 0, end;

	if (kind == SECTION_TEMPLATE)
		kind = SECTION_VM;
	while (config_keys[first].section != kind)
		first++;
	for (end = first; end < config_nkeys && config_keys[end].section == kind;)
		end++;
	*n = end - first;
	return &config_keys[first];
}

const struct config_key *config_key_find(enum section_kind kind, const char *name)
{
	size_t i, n;
	const struct config_key *keys = section_keys(kind, &n);

	for (i = 0; i < n; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

const char *config_key_nearest(enum section_kind kind, const char *name)
{
	const char *names[ARRAY_LEN(config_keys)];
	size_t i, n;
	const struct config_key *keys = section_keys(kind, &n);

	for (i = 0; i < n; i++)
		names[i] = keys[i].name;
	return str_nearest(name, names, n);
}
