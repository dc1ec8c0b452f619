"""How a network of pickers and workers does, seen from Redis: `status` and `top`."""
