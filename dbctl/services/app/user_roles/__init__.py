"""The roles of users, in each form in which an app stores them."""
