"""Measuring a profile on a real card: instances alone and in company, and the laws fitted to them."""
