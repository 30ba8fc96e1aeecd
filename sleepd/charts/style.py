"""How pages and charts look: one style without fonts or images from elsewhere; dark or light by the system."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --faint: #59636e; --line: #d8dee4;
  --awake: #1a7f37; --moving: #9a6700; --asleep1: #218bff; --asleep2: #0a3069; --stopped: #6e7781;
  --failed: #cf222e; --unknown: #afb8c1; --amount: #218bff; --area: #54aeff; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #30363d;
  --awake: #3fb950; --moving: #d29922; --asleep1: #58a6ff; --asleep2: #388bfd; --stopped: #8b949e;
  --failed: #f85149; --unknown: #6e7681; --amount: #58a6ff; --area: #1f6feb; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
p { margin: .3rem 0; } .about { color: var(--faint); }
figure { margin: 0; overflow-x: auto; } svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tell { fill: var(--faint); }
.tick { stroke: var(--line); } .floor { stroke: var(--line); } .mark { stroke: var(--ink); stroke-width: 1.5; }
.awake { fill: var(--awake); } .moving { fill: var(--moving); } .asleep1 { fill: var(--asleep1); }
.asleep2 { fill: var(--asleep2); } .stopped { fill: var(--stopped); } .failed { fill: var(--failed); }
.unknown { fill: var(--unknown); } .amount { fill: var(--amount); } .area { fill: var(--area); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--faint); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-size: .85rem; vertical-align: bottom; white-space: normal; } .number { text-align: right; }
@media print { body { margin: 0; max-width: none; } details { display: none; } }
"""
