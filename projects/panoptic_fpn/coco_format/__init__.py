"""What files in COCO's formats hold, and how results are written."""
