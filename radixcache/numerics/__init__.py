"""How libraries round on the machine at hand, found out by trial and remembered."""
