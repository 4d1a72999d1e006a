"""What a bystander hears: who speaks CARP on a link, how regularly, and why two hosts do not understand each other."""
