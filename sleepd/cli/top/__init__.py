"""`sleepctl top`: what `status`, `events` and `explain` tell, on one screen that stays, with keys to act on it.

`View` is everything that is known and chosen. `news` and `keys` return another View for what comes from the daemon and
from the keyboard, `render` the lines of a View for a screen of some size: pure functions, all three. `Link` asks the
daemon in threads of its own, `Terminal` is curses, and `run_top` brings them together.
"""
