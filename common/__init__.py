"""What every role shares: messages, wire, delivery, transport, configuration, update rules."""
