"""How do messages travel through a broker? An envelope, a port, a consumer and a relay; SQS and SNS stand behind it."""
