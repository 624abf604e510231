def make(seed, tolerant=False): pass
