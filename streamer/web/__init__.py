"""The web page: stations, waveforms, picks and events as they come, for everybody who may look."""
