"""Published distillation losses as functions of tensors; `distill/terms` says what they are applied to."""
