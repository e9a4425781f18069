"""Dreams: scenes rebuilt from takeovers, in which plans are tried and the policy is reinforced."""
