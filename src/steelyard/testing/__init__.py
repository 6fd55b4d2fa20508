"""What tests of an application and of a plugin need: a scripted model, the contract of stores."""
