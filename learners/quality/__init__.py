"""Every prediction against its outcome: metrics, detectors of drift, the predecessor in the shadow."""
